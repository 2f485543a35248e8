"""One sentence on what a picture shows, and the counts of what is seen."""

import numpy as np

from ilora.data.scenes.furniture import FURNITURE, OBJECTS
from ilora.data.scenes.scene import Scene

KINDS = (*FURNITURE, *OBJECTS)
SEEN = 0.004  # share of the picture that a piece must cover to count


def describe(scene: Scene, piece: np.ndarray) -> tuple[str, dict[str, float]]:
    """Caption and factors of a scene, from the piece index [h, w] that each pixel shows (-1: the room)."""
    shares = np.bincount(piece[piece >= 0], minlength=len(scene.pieces)) / piece.size
    seen = [i for i in np.argsort(-shares, kind="stable").tolist() if shares[i] >= SEEN]
    factors = dict(scene.factors)
    for kind in KINDS:
        factors[f"count_{kind}"] = float(sum(scene.pieces[i].kind == kind for i in seen))
    return _sentence(scene, seen), factors


def _sentence(scene: Scene, seen: list[int]) -> str:
    rng = np.random.Generator(np.random.PCG64([scene.seed, 1]))
    words, things = dict(scene.words), []
    for i in seen:
        thing = f"{scene.pieces[i].colour} {scene.pieces[i].kind}"
        if thing not in things:
            things.append(thing)
    things = [_article(thing) for thing in things[: int(rng.integers(2, 5))]]
    light, wall, floor = (words.get(name) for name in ("light", "wall", "floor"))
    room = _article(f"{light} room" if light and rng.random() < 0.6 else "room")
    sentence = f"{room} with {_join(things)}" if things else room
    if floor and rng.random() < 0.5:
        sentence += f" {'on' if things else 'with'} {_article(f'{floor} floor')}"
    if wall and rng.random() < 0.5:
        sentence += f", {wall} walls"
    return sentence


def _article(thing: str) -> str:
    if thing.endswith("boxes"):
        return thing
    return ("an " if thing[0] in "aeiou" else "a ") + thing


def _join(things: list[str]) -> str:
    return things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]

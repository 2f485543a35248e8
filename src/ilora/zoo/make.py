"""From nothing to a shipped generator: render pictures, train, measure, write the card."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ilora.zoo import autoregressive, autoregressive_card, gan, gan_card, loop, measure, scene_encoder, train
from ilora.zoo.recipes import DiffusionRecipe, EncoderRecipe, GanRecipe, TokenRecipe, recipe


@dataclass(frozen=True)
class Maker:
    """What turns recipes of a kind into generators.

    Attributes:
        train: name, pictures and folder to a trained generator.
        write_card: the same to one with its card.
        rung: name, folder and snapshot to a generator of the ladder; None: there is no ladder.
        ladder: the stage whose snapshots these are.
    """

    train: Callable[..., Path]
    write_card: Callable[..., Path]
    rung: Callable[..., Path] | None = None
    ladder: str = ""


MAKERS = {
    DiffusionRecipe: Maker(train.train, measure.write_card, train.rung, "denoiser"),
    GanRecipe: Maker(gan.train, gan_card.write_card, gan.rung, "gan"),
    TokenRecipe: Maker(autoregressive.train, autoregressive_card.write_card, autoregressive.rung, "prior"),
    EncoderRecipe: Maker(scene_encoder.train, scene_encoder.report),
}


def make(
    name: str,
    out: Path | str,
    *,
    pictures: Path | str | None = None,
    resume: bool = False,
    snapshots: bool = False,
    device: str | None = None,
) -> Path:
    """Train an embedded generator and its ladder; every stage goes on where it was stopped.

    Args:
        name: a recipe's name.
        out: everything goes here; the result is ``out/generator``.
        pictures: shards that ``ilora scenes render`` wrote; None: they are rendered into ``out/pictures``.
        resume: go on with what ``out`` holds.
        snapshots: also leave each snapshot of the ladder as a generator of its own, in ``out/ladder/IMAGES``.
        device: where to train; None: a GPU if there is one.

    Raises:
        ValueError: there is no recipe of that name.
        FileExistsError: ``out`` holds files, and ``resume`` is not asked for.
    """
    chosen, out = recipe(name), Path(out)
    maker = MAKERS[type(chosen)]
    if not resume and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"expected an empty folder, got {out} with files in it; go on with it (--resume) or choose another"
        )
    if pictures is None:
        from ilora.data.scenes import write

        pictures = out / "pictures"
        write(pictures, count=chosen.pictures, size=chosen.size)
    maker.train(name, pictures, out, device=device)
    place = maker.write_card(name, pictures, out)
    if snapshots and maker.rung:
        for snapshot in loop.snapshots(out / maker.ladder):
            maker.rung(name, out, snapshot, out / "ladder" / snapshot.stem)
    return place

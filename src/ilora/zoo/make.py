"""From nothing to a shipped generator: render pictures, train, measure, write the card."""

from pathlib import Path

from ilora.zoo.measure import write_card
from ilora.zoo.recipes import recipe
from ilora.zoo.train import rung, train


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
        FileExistsError: ``out`` holds files, and ``resume`` is not asked for.
    """
    chosen, out = recipe(name), Path(out)
    if not resume and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"expected an empty folder, got {out} with files in it; go on with it (--resume) or choose another"
        )
    if pictures is None:
        from ilora.data.scenes import write

        pictures = out / "pictures"
        write(pictures, count=chosen.pictures, size=chosen.size)
    train(name, pictures, out, device=device)
    place = write_card(name, pictures, out)
    if snapshots:
        for snapshot in sorted((out / "denoiser" / "snapshots").iterdir()):
            rung(name, out, snapshot, out / "ladder" / snapshot.stem)
    return place

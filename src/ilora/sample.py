"""Pictures that a generator paints by itself, as files."""

import math
from pathlib import Path

import torch

from ilora import checks, images
from ilora.generators import load
from ilora.ops import color
from ilora.run import progress
from ilora.team import default_device

TOGETHER = 8  # pictures painted at a time


def sample(
    generator: str, out: Path | str, *, count: int = 16, prompt: str = "", seed: int = 0, device: str | None = None
) -> list[Path]:
    """Paint ``count`` pictures with the seeds ``seed``, ``seed`` + 1, ... and a sheet of them all.

    Args:
        generator: what ``ilora.generators.load`` takes.
        out: folder for ``00000.png``, ... (named after the seeds) and ``sheet.png``.
        prompt: what to paint; families without text ignore it.
        device: None: the accelerator if there is one.

    Returns:
        The pictures, then the sheet.

    Raises:
        ValueError: a count below 1, a seed below 0, or ``out`` cannot be a folder.
    """
    folder, seeds = checks.output(out), [checks.seed(seed) + n for n in range(checks.positive("count", count))]
    painter = load(generator, device=device or default_device())
    about, pictures = {"generator": painter.name, "prompt": prompt}, []
    with progress("sample", count) as tell:
        for group in (seeds[start : start + TOGETHER] for start in range(0, count, TOGETHER)):
            painted = painter.sample(group, prompt)[0]
            pictures += list(color.to_uint8((painted.float().cpu() + 1) / 2))
            tell(len(pictures))
    paths = [
        images.write_preview(folder / f"{number:05d}.png", picture, about={**about, "seed": str(number)})
        for number, picture in zip(seeds, pictures, strict=True)
    ]
    columns = math.ceil(math.sqrt(count))
    empty: list[torch.Tensor | None] = [None] * (-count % columns)
    cells = [*pictures, *empty]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    sheet = images.contact_sheet(rows, [""] * columns)
    return [*paths, images.write_preview(folder / "sheet.png", sheet, about=about)]

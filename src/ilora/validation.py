"""What a finished fit shows of itself: scores on held-out images, and a sheet of them."""

import warnings
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora import images
from ilora.codes import encode_picture
from ilora.config import FitConfig
from ilora.data import dataset
from ilora.data.base import Dataset, Subset
from ilora.data.transforms import square
from ilora.generators.base import Generator
from ilora.intrinsics import intrinsic
from ilora.intrinsics.base import Intrinsic
from ilora.ops import color
from ilora.records import Code, Example
from ilora.run import say

HELD_OUT = 16  # validation images that are scored at the end
SHOWN = 6  # of them on the sheet

Tile = UInt8[Tensor, "3 _ _"]


def held_out(config: FitConfig, name: str, fallback: Dataset) -> tuple[str, Dataset]:
    """Up to ``HELD_OUT`` examples of an intrinsic, evenly spread over the validation split, or over the labels."""
    split, source = "validation", fallback
    try:
        with warnings.catch_warnings(action="ignore"):  # the training split has told about the folder
            source = dataset(config.data, intrinsic=name, split=split, on_problem="skip")
    except ValueError:  # a small folder may have no such split
        split = "train"
    count = min(HELD_OUT, len(source))
    return split, Subset(source, [index * len(source) // count for index in range(count)])


def encoded(generator: Generator, config: FitConfig, labelled: Mapping[str, Dataset]) -> dict[str, dict[str, Code]]:
    """Codes of the held-out images of each intrinsic, by name of the image; what cannot be read is said and left out.

    The generator must be as it was: some encode through the network that adapters and random weights change.

    Args:
        labelled: training examples by intrinsic, for data without a validation split.
    """
    codes = {}
    for name, each in labelled.items():
        kind, (_, held) = intrinsic(name), held_out(config, name, each)
        codes[name] = {given.name: encode_picture(generator, kind, given) for given in _readable(held)}
    return codes


def validate(
    generator: Generator,
    config: FitConfig,
    labelled: Mapping[str, Dataset],
    *,
    codes: Mapping[str, Mapping[str, Code]],
    sheet: Path,
) -> dict[str, Any]:
    """Score held-out images at the generator's resolution, one by one, and show some of them beside the truth.

    What cannot be read is said and left out: a fit that is done shall not be lost to a bad file.

    Args:
        labelled: training examples by intrinsic, for data without a validation split.
        codes: what ``encoded`` made of the same examples; those without one are left out.
        sheet: file of the picture: a row an image, two columns an intrinsic; none where nothing can be read.

    Returns:
        ``split``, ``images`` that were scored and the mean of the primary metric, None without any; of several
        intrinsics a dictionary of these by name.
    """
    scores, tiles, labels, kinds = {}, dict[str, dict[str, Tile]](), ["image"], [intrinsic(name) for name in labelled]
    for kind in kinds:
        split, held = held_out(config, kind.name, labelled[kind.name])
        errors, columns = [], (kind.name, "truth" if len(kinds) == 1 else f"{kind.name}, truth")
        generator.ask(kind.prompt)
        for given in _readable(held, among=codes[kind.name]):
            example = square(given, kind, side=generator.resolution)
            map, valid = example.map[None], example.valid[None]
            found = painted(generator, kind, codes[kind.name][given.name], precision=config.precision)
            errors.append(kind.metrics(found, map, valid)[kind.primary])
            picture = {"image": color.to_uint8((example.image[None] + 1) / 2)[0]}
            pair = (kind.show(found)[0], kind.show(map)[0])
            tiles.setdefault(example.name, {}).update(picture | dict(zip(columns, pair, strict=True)))
        labels += columns
        mean = torch.cat(errors).nanmean().item() if errors else None
        scores[kind.name] = {"split": split, "images": len(errors), kind.primary: mean}
    rows = [[row.get(label) for label in labels] for row in list(tiles.values())[:SHOWN]]
    about = {"intrinsic": config.intrinsic, "units": "; ".join(kind.units for kind in kinds)}
    if rows:
        images.write_preview(sheet, images.contact_sheet(rows, labels), about=about)
    return scores if len(kinds) > 1 else scores[kinds[0].name]


def _readable(held: Dataset, among: Container[str] | None = None) -> Iterator[Example]:
    """The examples of these names (None: all) that can be read; a line about each of the others."""
    for index, name in enumerate(held.names):
        if among is not None and name not in among:
            continue
        try:
            yield held[index]
        except images.UNREADABLE as error:
            say(f"{name} is left out of the validation: {' '.join(str(error).split())}")


@torch.no_grad()
def painted(
    generator: Generator, kind: Intrinsic, code: Code, *, precision: str = "fp32"
) -> Float[Tensor, "1 c side side"]:
    """The map that the generator, asked for it already, paints from a code."""
    device = next(generator.network.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        image = generator.forward(code.to(device))
    return kind.from_image(image.float().cpu())

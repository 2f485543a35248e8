"""Contact sheets: rows of pictures under captions."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 8  # px between cells
INK = (32, 32, 32)


def contact_sheet(
    rows: Sequence[Sequence[UInt8[Tensor, "3 _ _"] | None]],
    labels: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    side: int = 192,
) -> UInt8[Tensor, "3 height width"]:
    """Pictures of any sizes in a grid of cells ``side`` px high, on white; None leaves a cell empty.

    ``labels`` stand over the columns and ``names`` to the left of the rows. All cells have the aspect of the median
    picture; each picture is scaled to fit its cell. A caption that is too wide is broken into lines.

    Raises:
        ValueError: no picture, or the numbers of labels and names do not fit the rows.
    """
    shown = [picture for row in rows for picture in row if picture is not None]
    columns = max((len(row) for row in rows), default=0)
    if not shown or len(labels) != columns or (names is not None and len(names) != len(rows)):
        raise ValueError(
            f"a sheet needs a picture, {columns} labels (one a column) and {len(rows)} names (one a row) or none, got "
            f"{len(shown)} pictures, {len(labels)} labels and {'no' if names is None else len(names)} names; add them"
        )
    aspect = sorted(picture.shape[2] / picture.shape[1] for picture in shown)[len(shown) // 2]
    width = round(side * min(max(aspect, 0.25), 4.0))
    font = ImageFont.load_default(size=max(12, side // 12))
    line = math.ceil(sum(font.getmetrics())) + 2
    heads = [_broken(label, font, width) for label in labels]
    sides = [_broken(name, font, width // 2) for name in names or []]
    left = GAP + (width // 2 + GAP if names else 0)
    top = GAP + line * max(len(head) for head in heads)
    sheet = Image.new("RGB", (left + columns * (width + GAP), top + len(rows) * (side + GAP)), "white")
    captions = [(left + column * (width + GAP), top - line * len(head), head) for column, head in enumerate(heads)]
    captions += [(GAP, top + index * (side + GAP), words) for index, words in enumerate(sides)]
    for x, y, words in captions:
        ImageDraw.Draw(sheet).text((x, y), "\n".join(words), INK, font, spacing=2)
    for index, row in enumerate(rows):
        for column, picture in enumerate(row):
            corner = (left + column * (width + GAP), top + index * (side + GAP))
            _paste(sheet, picture, corner=corner, size=(width, side))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).contiguous()  # [3, height, width]


def _paste(
    sheet: Image.Image, picture: UInt8[Tensor, "3 h w"] | None, *, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Put the picture into the cell at ``corner`` as large as fits, in the middle; the sheet is changed."""
    if picture is None:
        return
    image = Image.fromarray(picture.detach().cpu().permute(1, 2, 0).contiguous().numpy())
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    place = (corner[0] + (size[0] - width) // 2, corner[1] + (size[1] - height) // 2)
    sheet.paste(image.resize((width, height), Image.Resampling.LANCZOS), place)


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of ``text`` no wider than ``width`` px, broken at spaces, and inside words that are wider than a line."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip(" ")
        while font.getlength(lines[-1]) > width and len(lines[-1]) > 1:
            fits = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or font.getlength(lines[-1][:n]) <= width)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines

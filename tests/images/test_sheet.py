"""Contact sheets hold every picture in its place, under captions that fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from ilora import images
from ilora.images.sheet import GAP, _broken


def plain(red: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """A picture of one colour."""
    return torch.tensor([red, 10, 20], dtype=torch.uint8)[:, None, None].expand(3, height, width)


def test_every_picture_is_in_its_cell() -> None:
    sheet = images.contact_sheet([[plain(100), plain(150)], [plain(200), None]], ["one", "two"], side=64)
    bottom = sheet.shape[1] - GAP - 32  # middle of the last row
    for row, column, red in ((1, 0, 100), (1, 1, 150), (0, 0, 200), (0, 1, 255)):
        x, y = GAP + 32 + column * (64 + GAP), bottom - row * (64 + GAP)
        assert sheet[0, y, x] == red
    assert sheet.dtype == torch.uint8 and sheet.shape[2] == 2 * 64 + 3 * GAP


def test_captions_are_dark_on_white_above_their_columns() -> None:
    sheet = images.contact_sheet([[plain(255), plain(255)]], ["", "label"], side=64)
    head = sheet[:, : sheet.shape[1] - 64 - GAP]
    assert head[..., : GAP + 64].min() == 255 and head[..., GAP + 64 :].min() < 60


def test_names_stand_left_of_their_rows() -> None:
    bare = images.contact_sheet([[plain(9)], [plain(9)]], ["a"], side=64)
    named = images.contact_sheet([[plain(9)], [plain(9)]], ["a"], names=["", "second"], side=64)
    margin = named[..., : named.shape[2] - bare.shape[2]]
    assert margin[:, : margin.shape[1] - 64 - GAP].min() == 255 and margin[:, margin.shape[1] - 64 - GAP :].min() < 60


def test_unlike_shapes_keep_their_aspect() -> None:
    sheet = images.contact_sheet([[plain(1), plain(2, 16, 64), plain(3)]], ["a", "b", "c"], side=64)
    tall = sheet[0] == 2
    assert tall.any(1).sum() == 16 and tall.any(0).sum() == 64


def test_words_are_broken_to_fit() -> None:
    font = ImageFont.load_default(size=16)
    for text in ("a few words that are longer than a line", "oneverylongwordthatfitsnowhere", "", "i"):
        lines = _broken(text, font, 70)
        assert all(font.getlength(line) <= 70 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("rows", "labels", "names"),
    [([], [], None), ([[None]], ["a"], None), ([[plain(1)]], [], None), ([[plain(1)]], ["a"], ["x", "y"])],
)
def test_what_does_not_fit_is_refused(rows: list, labels: list[str], names: list[str] | None) -> None:
    with pytest.raises(ValueError, match="a sheet needs a picture"):
        images.contact_sheet(rows, labels, names=names)


def test_a_sheet_is_written_with_its_story(tmp_path: Path) -> None:
    sheet = images.contact_sheet([[plain(100)]], ["a"], side=32)
    images.write_preview(tmp_path / "sheet.png", sheet, about={"data": "rooms"})
    with Image.open(tmp_path / "sheet.png") as picture:
        assert np.array_equal(np.asarray(picture), sheet.permute(1, 2, 0)) and picture.text == {"data": "rooms"}

"""Stored numbers become physical values in ilora's units and axes, and what cannot be is doubted."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ilora.data import meta
from ilora.data.labels import READERS, Labels
from ilora.images import StoredMap


def stored(values: Tensor, full_scale: float | None = None, opaque: Tensor | None = None) -> StoredMap:
    """A map as a file holds it."""
    return StoredMap(
        values, full_scale, torch.ones_like(values[:1], dtype=torch.bool) if opaque is None else opaque, {}
    )


def doubts(labels: Labels) -> list[str]:
    """What is doubted."""
    return [doubt.what for doubt in labels.doubts]


def vectors(*triples: tuple[float, float, float]) -> Tensor:
    """A map of one row."""
    return torch.tensor(triples).T[:, None]  # [3, 1, n]


def room(tilt: float = 0.0) -> Tensor:
    """Normals of a wall above a floor in RUB, the camera tilted down by ``tilt`` [deg]."""
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    floor, wall = torch.tensor([0.0, c, s]), torch.tensor([0.0, -s, c])
    rows = torch.where(torch.arange(30)[:, None] >= 12, floor, wall)  # [30, 3]
    return rows.T[:, :, None].expand(3, 30, 20).contiguous()


def test_integer_normals_by_hand() -> None:
    codes = vectors((255.0, 127.5, 127.5), (127.5, 255.0, 127.5), (127.5, 127.5, 255.0), (0.0, 0.0, 0.0))
    labels = READERS["normal"].read(stored(codes, 255), meta.Normals(invalid=0))
    assert_close(labels.map, vectors((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)))
    assert labels.valid.tolist() == [[[True, True, True, False]]] and not labels.doubts


@pytest.mark.parametrize(("axes", "signs"), [("RUB", (1, 1, 1)), ("LUB", (-1, 1, 1)), ("RDF", (1, -1, -1))])
def test_axes_become_rub(axes: str, signs: tuple[int, int, int]) -> None:
    theirs = room(20) * torch.tensor(signs)[:, None, None]
    labels = READERS["normal"].read(stored(theirs), meta.Normals(axes=axes))
    assert_close(labels.map, room(20))
    assert not labels.doubts


@pytest.mark.parametrize("tilt", [-10, 0, 30, 50])
@pytest.mark.parametrize(("axes", "words"), [
    ("RDB", "floor points down"), ("RUF", "face away"), ("RDF", "floor points down and most surfaces face away"),
])  # fmt: skip
def test_wrong_axes_are_doubted_and_the_right_ones_named(axes: str, words: str, tilt: float) -> None:
    labels = READERS["normal"].read(stored(room(tilt)), meta.Normals(axes=axes))
    (doubt,) = labels.doubts
    assert words in doubt.what and 'axes = "RUB"' in doubt.remedy
    assert not READERS["normal"].read(stored(room(tilt)), meta.Normals(axes="RUB")).doubts


def test_normals_of_another_length() -> None:
    long = READERS["normal"].read(stored(room() * 3), meta.Normals())
    assert "another length than 1 (median 3)" in doubts(long)[0] and not long.valid.any()
    slightly = READERS["normal"].read(stored(room() * 1.05), meta.Normals())
    assert not slightly.doubts and slightly.valid.all()
    assert_close(slightly.map, room())
    background = room()
    background[:, :, :5] = 0
    assert "another length than 1" in doubts(READERS["normal"].read(stored(background), meta.Normals()))[0]
    declared = READERS["normal"].read(stored(background), meta.Normals(invalid=0))
    assert not declared.doubts and int(declared.valid.sum()) == 30 * 15


def test_depth_units_by_hand() -> None:
    millimetres = torch.tensor([[[1500.0, 2500.0, 0.0, 65535.0]]])
    labels = READERS["depth"].read(stored(millimetres, 65535), meta.Depths(unit="mm", invalid=[0, 65535]))
    assert_close(labels.map, torch.tensor([[[1.5, 2.5, 0, 0]]]))
    assert labels.valid.tolist() == [[[True, True, False, False]]] and not labels.doubts
    scaled = READERS["depth"].read(stored(millimetres, 65535), meta.Depths(scale=1 / 5000, offset=0.1, largest=5.0))
    assert_close(scaled.map, torch.tensor([[[0.4, 0.6, 0.1, 0]]]))


def test_integer_depth_needs_a_unit() -> None:
    with pytest.raises(ValueError, match="integer depth needs its unit"):
        READERS["depth"].read(stored(torch.ones(1, 2, 2), 255), meta.Depths())
    with pytest.raises(ValueError, match="got 'inch'"):
        READERS["depth"].read(stored(torch.ones(1, 2, 2)), meta.Depths(unit="inch"))


@pytest.mark.parametrize(
    ("median", "unit", "words"),
    [
        (3000.0, "m", 'unit = "mm" would fit'),
        (250.0 * 100, "m", 'unit = "mm" would fit'),
        (400.0, "m", 'unit = "cm" would fit'),
        (3.0, "mm", 'unit = "m" would fit'),
        (1e9, "m", "declare the unit and scale"),
        (3.0, "m", None),
        (0.4, "m", None),
        (120.0, "m", None),
        (1e9, "relative", None),
    ],
)
def test_impossible_units(median: float, unit: str, words: str | None) -> None:
    labels = READERS["depth"].read(
        stored(torch.linspace(0.5, 1.5, 25).reshape(1, 5, 5) * median), meta.Depths(unit=unit)
    )
    assert [words in doubt.remedy for doubt in labels.doubts] == ([] if words is None else [True])


def test_flat_depth_is_doubted() -> None:
    assert doubts(READERS["depth"].read(stored(torch.full((1, 4, 4), 2.0)), meta.Depths())) == [
        "its depth is 2 everywhere"
    ]


def test_distances_become_depth_along_the_axis() -> None:
    camera = {"fx": 2.0, "fy": 2.0, "cx": 2.0, "cy": 2.0}
    x = torch.arange(4) + 0.5 - 2
    slant = ((x / 2) ** 2 + (x[:, None] / 2) ** 2 + 1).sqrt()  # distance of a wall at depth 1
    wall = torch.linspace(1, 2, 4)[:, None].expand(4, 4)  # not flat
    labels = READERS["depth"].read(stored((wall * slant)[None]), meta.Depths(kind="euclidean", camera=camera))
    assert_close(labels.map[0], wall)


def test_depth_in_three_equal_channels() -> None:
    grey = torch.tensor([[[1.0, torch.nan, 2.0]]]).expand(3, 1, 3)
    labels = READERS["depth"].read(stored(grey), meta.Depths(invalid=[math.nan]))
    assert labels.map.tolist() == [[[1, 0, 2]]] and not labels.doubts
    with pytest.raises(ValueError, match="3 that differ"):
        READERS["depth"].read(stored(torch.rand(3, 4, 4)), meta.Depths())


def test_nan_must_be_declared() -> None:
    map = torch.tensor([[[1.0, torch.nan, torch.inf, 2.0]]])
    undeclared = READERS["depth"].read(stored(map), meta.Depths())
    assert doubts(undeclared) == ["2 of its pixels are NaN or infinite"]
    assert undeclared.map.tolist() == [[[1, 0, 0, 2]]]  # finite all the same
    assert not READERS["depth"].read(stored(map), meta.Depths(invalid=[math.nan, math.inf])).doubts


@pytest.mark.parametrize("name", ["normal", "albedo", "depth"])
def test_what_the_remedy_declares_is_not_doubted(name: str, tmp_path: Path) -> None:
    """NaN, infinity and minus infinity in one channel each; of three channels the list has one number for each."""
    map = torch.tensor([0.0, 0.6, 0.8])[:, None, None].repeat(1, 2, 4)  # [3, 2, 4]
    map[0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    map[2, 1, 0], map[:, 1, 1], map[1, 1, 3] = torch.nan, torch.nan, -torch.inf
    map = map[:1] + torch.arange(1.0, 9).view(1, 2, 4) if name == "depth" else map
    reader = READERS[name]
    (doubt,) = reader.read(stored(map), meta.MAPS[reader.folder]()).doubts
    words = doubt.remedy.removeprefix("declare ").partition("]")[0] + "]"
    (tmp_path / "meta.toml").write_text(f"[{reader.folder}]\n{words}\n")
    labels = reader.read(stored(map), meta.read(tmp_path).tables[reader.folder])
    assert not labels.doubts and labels.valid.equal(map.isfinite().all(0, keepdim=True))
    assert labels.map.isfinite().all()


@pytest.mark.parametrize("name", ["albedo", "shading"])
def test_colours_by_hand(name: str) -> None:
    codes = torch.tensor([0.0, 128, 255])[:, None, None].expand(3, 2, 2)
    light = torch.tensor([0.0, 0.2158605, 1.0])[:, None, None].expand(3, 2, 2)  # IEC 61966-2-1 of 128 / 255
    reader = READERS[name]
    assert_close(reader.read(stored(codes, 255), meta.Colours()).map, light)  # integers are sRGB
    assert_close(reader.read(stored(codes, 255), meta.Colours(space="linear")).map, codes / 255)
    assert_close(reader.read(stored(codes / 255), meta.Colours()).map, codes / 255)  # floats are linear
    assert_close(reader.read(stored(codes / 255), meta.Colours(space="srgb")).map, light)
    wide = reader.read(stored(codes, 255), meta.Colours(space="linear", scale=0.5 / 255, offset=0.25))
    assert_close(wide.map, codes / 510 + 0.25)
    grey = reader.read(stored(codes[1:2], 255), meta.Colours())
    assert_close(grey.map, light[1:2].expand(3, 2, 2))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("albedo", torch.full((3, 4, 4), 200.0), "its median is 200"),
        ("shading", torch.full((3, 4, 4), 200.0), "its median is 200"),
        ("shading", torch.full((3, 4, 4), 5.0), None),
        ("albedo", torch.linspace(-1, 1, 48).reshape(3, 4, 4), "its values go down to -1"),
        ("albedo", torch.zeros(3, 4, 4), "it is black"),
    ],
)
def test_impossible_light(name: str, values: Tensor, words: str | None) -> None:
    found = doubts(READERS[name].read(stored(values), meta.Colours()))
    assert (words is None and not found) or (words is not None and found[0].startswith(words))


def test_transparent_pixels_are_not_measured() -> None:
    opaque = torch.tensor([[[True, False]]])
    labels = READERS["albedo"].read(stored(torch.full((3, 1, 2), 0.5), None, opaque), meta.Colours())
    assert torch.equal(labels.valid, opaque) and labels.map[0].tolist() == [[0.5, 0]]


@pytest.mark.parametrize(("name", "channels"), [("normal", 1), ("normal", 2), ("albedo", 2)])
def test_wrong_channels_are_refused(name: str, channels: int) -> None:
    about = meta.Normals() if name == "normal" else meta.Colours()
    with pytest.raises(ValueError, match=f"expected 3 channels, got {channels}"):
        READERS[name].read(stored(torch.ones(channels, 2, 2)), about)

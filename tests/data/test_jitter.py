"""Other light: gains by hand, and that picture = albedo * shading stays true under them."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.codes import encode
from ilora.data import dataset
from ilora.data.jitter import BALANCE, EXPOSURE, gains, relight
from ilora.generators import load
from ilora.intrinsics import NAMES, intrinsic
from ilora.ops import color
from ilora.records import Example
from tests import world


def scene(name: str) -> tuple[Example, torch.Tensor]:
    """A dim scene that no gain clips, labelled with one intrinsic; and its picture in linear RGB."""
    draws = torch.Generator().manual_seed(3)
    albedo, light = (0.1 + 0.4 * torch.rand(3, 6, 8, generator=draws) for _ in range(2))
    picture = albedo * light
    maps = {"albedo": albedo, "shading": light, "depth": light[:1], "normal": light / light.norm(dim=0)}
    image, valid = 2 * color.to_srgb(picture) - 1, torch.ones(1, 6, 8, dtype=torch.bool)
    return Example("room", image, maps[name], valid), picture


def test_gains_are_mild_and_belong_to_the_picture() -> None:
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    drawn = gains(image, 500)
    assert drawn.equal(gains(image, 500)) and gains(image, 2).equal(drawn[:2])
    assert not drawn[0].equal(gains(image + 1e-3, 1)[0]) and gains(image, 0).shape == (0, 3)
    stops = drawn.log2()
    assert stops[:, 1].abs().max() <= EXPOSURE and stops[:, 1].abs().max() > 0.95 * EXPOSURE
    balance = stops[:, [0, 2]] - stops[:, 1:2]
    assert balance.abs().max() <= BALANCE + 1e-5 and balance.std(0).min() > BALANCE / 3


def test_light_times_a_gain_is_the_same_scene() -> None:
    """Albedo times the relit shading is the relit picture, channel by channel."""
    gain = torch.tensor([1.2, 0.8, 0.7])
    albedo, shading = (relight(scene(name)[0], intrinsic(name), gain) for name in ("albedo", "shading"))
    assert_close(color.to_linear((shading.image + 1) / 2), scene("shading")[1] * gain[:, None, None])
    assert_close(albedo.map * shading.map, scene("shading")[1] * gain[:, None, None])
    assert albedo.image.equal(shading.image) and albedo.valid.all() and albedo.name == "room-relit"


@pytest.mark.parametrize("name", ["normal", "depth", "albedo"])
def test_what_is_no_light_stays(name: str) -> None:
    example, _ = scene(name)
    assert relight(example, intrinsic(name), torch.tensor([1.3, 1.0, 0.8])).map.equal(example.map)


def test_shading_is_painted_the_same_in_brighter_light_and_otherwise_in_coloured() -> None:
    example, kind = scene("shading")[0], intrinsic("shading")
    painted = kind.to_image(example.map[None], example.valid[None])
    for gain, same in ((torch.full((3,), 1.4), True), (torch.tensor([1.4, 1.0, 1.0]), False)):
        other = relight(example, kind, gain)
        assert torch.allclose(kind.to_image(other.map[None], other.valid[None]), painted, atol=1e-5) == same


def test_what_is_too_bright_is_clipped() -> None:
    example = Example("white", torch.ones(3, 2, 2), torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool))
    assert_close(relight(example, intrinsic("depth"), torch.full((3,), 1.4)).image, example.image)


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_rows_beside_their_pictures(tmp_path: Path, name: str) -> None:
    examples = dataset(str(world.write(tmp_path / "world", train=2, test=1)), intrinsic=name)
    generator, kind = load("toy"), intrinsic(name)
    plain = encode(generator, kind, examples, mirrored=True)
    more = encode(generator, kind, examples, mirrored=True, relit=2)
    assert len(more.code) == 2 * (1 + 1) * (1 + 2) and more.map.shape[0] == more.valid.shape[0] == 12
    assert more.code[[0, 1, 6, 7]].equal(plain.code) and more.map[[0, 1, 6, 7]].equal(plain.map)
    assert len(encode(generator, kind, examples, mirrored=False, relit=1).code) == 4
    assert not more.code[2].equal(more.code[3])  # two copies of one picture
    assert more.map[2].equal(plain.map[0]) == (name != "shading")

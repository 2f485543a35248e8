"""Mirrors and sizes keep what the numbers mean, and nothing invalid bleeds into what is valid."""

import pytest
import torch
from torch.testing import assert_close

from ilora.data.transforms import mirror, resize, square
from ilora.intrinsics import NAMES, intrinsic
from ilora.records import Example


def example(name: str, height: int = 12, width: int = 16) -> Example:
    """Random numbers that a map of the intrinsic could have, half of them valid."""
    generator = torch.Generator().manual_seed(0)
    kind = intrinsic(name)
    map = torch.rand(kind.channels, height, width, generator=generator) + 0.1
    map = map / map.norm(dim=0) if name == "normal" else map
    valid = torch.rand(1, height, width, generator=generator) < 0.5
    return Example("a", torch.rand(3, height, width, generator=generator) * 2 - 1, torch.where(valid, map, 0), valid)


@pytest.mark.parametrize("name", NAMES)
def test_a_mirror_twice_is_the_scene(name: str) -> None:
    scene, kind = example(name), intrinsic(name)
    twice = mirror(mirror(scene, kind), kind)
    assert (
        torch.equal(twice.image, scene.image)
        and torch.equal(twice.map, scene.map)
        and torch.equal(twice.valid, scene.valid)
    )
    assert mirror(scene, kind).name == "a-mirrored"


def test_a_wall_on_the_left_is_on_the_right_in_the_mirror() -> None:
    map = torch.zeros(3, 1, 4)
    map[0, 0, 0] = 1  # the leftmost pixel sees a wall that faces right
    scene = Example("a", torch.zeros(3, 1, 4), map, (map[:1] != 0))
    seen = mirror(scene, intrinsic("normal"))
    assert seen.map[0].tolist() == [[0, 0, 0, -1]] and seen.valid[0].tolist() == [[False, False, False, True]]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_size_changes_nothing(name: str) -> None:
    scene = example(name)
    same = resize(scene, intrinsic(name), height=12, width=16)
    assert torch.equal(same.image, scene.image) and torch.equal(same.valid, scene.valid)
    assert_close(same.map, scene.map)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (24, 32), (12, 5)])
def test_invalid_numbers_do_not_bleed(size: tuple[int, int]) -> None:
    depth = torch.where(torch.arange(16) < 9, 2.0, 1e6).expand(1, 12, 16)  # the right part is not measured
    for junk in (1e6, 0.0, float("nan")):
        scene = Example("a", torch.zeros(3, 12, 16), torch.where(depth > 3, junk, depth), depth < 3)
        sized = resize(scene, intrinsic("depth"), height=size[0], width=size[1])
        assert_close(sized.map[sized.valid], torch.full((int(sized.valid.sum()),), 2.0))
        assert float(sized.map[~sized.valid].abs().sum()) == 0
        share = float(sized.valid.float().mean())
        assert abs(share - 9 / 16) < 1 / size[1]  # the mask neither grows nor shrinks


def test_an_average_by_hand() -> None:
    map = torch.tensor([[[1.0, 3.0, 9.0, 9.0], [5.0, 7.0, 9.0, 9.0]]])
    valid = torch.tensor([[[True, True, False, False], [False, True, False, True]]])
    scene = Example("a", torch.zeros(3, 2, 4), map, valid)
    means = [weighted / total for weighted, total in _weights(map, valid)]
    sized = resize(scene, intrinsic("depth"), height=1, width=2)
    assert sized.valid.tolist() == [[[True, False]]]
    assert_close(sized.map[0, 0, 0], means[0])


def _weights(map: torch.Tensor, valid: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sums of value and weight under the triangle filter, two pixels wide on either side, for each new pixel."""
    centres = (torch.arange(4) + 0.5)[None] - torch.tensor([1.0, 3.0])[:, None]
    across = (1 - centres.abs() / 2).clamp(min=0)
    across = across / across.sum(1, keepdim=True)
    down = torch.tensor([0.5, 0.5])
    return [((map[0] * valid[0] * down[:, None] * row).sum(), (valid[0] * down[:, None] * row).sum()) for row in across]


def test_resized_normals_are_of_unit_length() -> None:
    sized = resize(example("normal"), intrinsic("normal"), height=5, width=7)
    lengths = sized.map.norm(dim=0, keepdim=True)
    assert_close(lengths[sized.valid], torch.ones(int(sized.valid.sum())))
    assert float(lengths[~sized.valid].sum()) == 0


def test_a_shrunk_picture_keeps_its_mean_and_its_range() -> None:
    checker = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    scene = Example("a", checker.expand(3, 64, 64), checker[None] + 2, torch.ones(1, 64, 64, dtype=torch.bool))
    sized = resize(scene, intrinsic("depth"), height=8, width=8)
    assert float(sized.image[:, 1:-1, 1:-1].abs().max()) < 0.02  # grey, not the checker's own colours
    large = resize(scene, intrinsic("depth"), height=99, width=77)
    assert float(large.image.abs().max()) <= 1


@pytest.mark.parametrize(("height", "width"), [(12, 30), (30, 12), (16, 16), (7, 5)])
def test_the_middle_as_a_square(height: int, width: int) -> None:
    across = torch.linspace(-1, 1, width).expand(3, height, width)
    down = torch.linspace(1, 3, height)[:, None].expand(1, height, width)
    scene = square(
        Example("a", across, down, torch.ones(1, height, width, dtype=torch.bool)), intrinsic("depth"), side=16
    )
    assert scene.image.shape == (3, 16, 16) and scene.map.shape == (1, 16, 16) and scene.valid.all()
    assert abs(float(scene.image.mean())) < 0.08 and abs(float(scene.map.mean()) - 2) < 0.08  # centred
    assert scene.image.is_contiguous() and scene.map.is_contiguous()

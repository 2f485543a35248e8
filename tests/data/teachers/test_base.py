"""What teachers declare is converted, and what cannot be is doubted in words."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ilora.data import meta
from ilora.data.teachers.base import Answer, Teacher, ask
from ilora.ops import color, geometry

SIDE = 12
RAMP = torch.linspace(-1, 4, SIDE).expand(1, 1, SIDE, SIDE)


class Says:
    """A teacher that gives the same answer whatever it is shown."""

    name, fingerprint, story = "says", "0", "made for the test"

    def __init__(self, declares: dict[str, meta.Stored], **answers: Tensor) -> None:
        self.declares = declares
        self.answers = answers

    def label(self, image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        count = len(image)
        return {
            name: (map.expand(count, -1, -1, -1), torch.ones(count, 1, *map.shape[-2:], dtype=torch.bool))
            for name, map in self.answers.items()
        }


def first(teacher: Teacher, image: Tensor | None = None) -> Answer:
    """The answer for one picture."""
    return ask(teacher, torch.zeros(1, 3, SIDE, SIDE) if image is None else image)[0]


def room() -> Tensor:
    """Normals [1, 3, h, w], RUB: a wall above that faces the viewer, below it a floor that faces up and forward."""
    normal = torch.zeros(1, 3, SIDE, SIDE)
    normal[:, 2, : SIDE // 2] = 1
    normal[:, 1, SIDE // 2 :], normal[:, 2, SIDE // 2 :] = 0.8, 0.6
    return normal


@pytest.mark.parametrize("axes", ["RUB", "LUB", "RDF", "BUR"])
def test_normals_come_in_our_axes_from_any_others(axes: str) -> None:
    says = Says({"normal": meta.Normals(axes=axes)}, normal=geometry.convert(room(), "RUB", axes))
    answer = first(says)
    assert answer.doubts == []
    assert_close(answer.labels["normal"].map, room()[0])


def test_depth_and_light_come_in_our_units() -> None:
    ramp = torch.linspace(1, 2, SIDE).expand(1, 1, SIDE, SIDE)
    declares = {"depth": meta.Depths(unit="mm"), "albedo": meta.Colours(space="srgb")}
    answer = first(Says(declares, depth=1000 * ramp, albedo=(ramp / 4).expand(1, 3, SIDE, SIDE)))
    assert answer.doubts == []
    assert_close(answer.labels["depth"].map, ramp[0])
    assert_close(answer.labels["albedo"].map, color.to_linear(ramp[0] / 4).expand(3, SIDE, SIDE))


def upside_down() -> Tensor:
    return room() * torch.tensor([1.0, -1, 1]).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("name", "declared", "made", "words"),
    [
        ("normal", meta.Normals(), upside_down, 'its floor points down if its axes are RUB; axes = "RDB" would fit'),
        ("normal", meta.Normals(), lambda: -room(), 'and most surfaces face away if its axes are RUB; axes = "RDF"'),
        ("normal", meta.Normals(), lambda: 0.7 * room(), "100% of its normals have another length than 1"),
        ("normal", meta.Normals(), lambda: room() / 0, "NaN or infinite"),
        ("depth", meta.Depths(unit="m"), lambda: RAMP, "25% of its depth is not positive"),
        ("depth", meta.Depths(unit="m"), lambda: 900 * room()[:, 2:] + 500, 'unit = "mm" would fit'),
        ("depth", meta.Depths(unit="relative"), lambda: torch.ones(1, 1, SIDE, SIDE), "its depth is 1 everywhere"),
        ("albedo", meta.Colours(space="linear"), lambda: 3 * room().abs(), "of its albedo is above 1, up to 3"),
        ("shading", meta.Colours(space="linear"), lambda: -room(), "its values go down to -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_doubted(name: str, declared: meta.Stored, made: Callable[[], Tensor], words: str) -> None:
    doubts = first(Says({name: declared}, **{name: made()})).doubts
    assert any(doubt.startswith(f"{name}: ") and words in doubt for doubt in doubts)


def test_albedo_times_shading_must_be_the_picture_up_to_a_scale() -> None:
    albedo, shading = torch.rand(2, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).add(0.1).div(1.2)
    image = 2 * color.to_srgb(albedo * shading) - 1
    linear = {name: meta.Colours(space="linear") for name in ("albedo", "shading")}
    assert first(Says(linear, albedo=albedo, shading=5 * shading), image).doubts == []
    (doubt,) = first(Says(linear, albedo=albedo.flip(-1), shading=shading), image).doubts
    assert doubt.startswith("albedo times shading misses the picture's light by")
    (doubt,) = first(Says(linear, albedo=1 - albedo, shading=1 - shading), image).doubts
    assert "one colour by" in doubt


def test_a_teacher_that_breaks_the_protocol_is_told_so() -> None:
    depth = torch.ones(1, 1, SIDE, SIDE)
    with pytest.raises(ValueError, match="says must answer for normal as it declares, got depth"):
        first(Says({"normal": meta.Normals()}, depth=depth))
    with pytest.raises(ValueError, match=r"must answer at the pictures' \(1, 3, 12, 12\), got depth \(1, 1, 6, 12\)"):
        first(Says({"depth": meta.Depths()}, depth=depth[:, :, :6]))

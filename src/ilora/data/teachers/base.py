"""What every teacher implements, and how its answers become labels in ilora's units and axes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ilora.data import meta
from ilora.data.labels import READERS, Doubt, Labels
from ilora.data.teachers import physics
from ilora.images import StoredMap
from ilora.records import Image, Map, Valid


@runtime_checkable
class Teacher(Protocol):
    """A predictor whose maps others learn from.

    Attributes:
        name: of the teacher, in words for reports.
        fingerprint: hash of everything that its answers depend on; labels are made again where it changes.
        declares: what its numbers mean, by intrinsic: ``meta.Normals`` (axes), ``meta.Depths`` (unit, kind, camera),
            ``meta.Colours`` (colour space). Its keys are the intrinsics that it answers for.
        story: where its answers come from, one line for ``meta.toml``.
    """

    name: str
    fingerprint: str
    declares: Mapping[str, meta.Stored]
    story: str

    def label(self, image: Image) -> dict[str, tuple[Map, Valid]]:
        """A map and its mask for each intrinsic, at the picture's size, in the numbers that ``declares`` explains.

        The answer for a picture must not depend on the others of the batch.

        Args:
            image: pictures of one size, sRGB in [-1, 1], on the CPU.
        """
        ...


@dataclass(frozen=True)
class Answer:
    """What a teacher says about one picture.

    Attributes:
        labels: by intrinsic, in ilora's units and axes.
        doubts: what cannot be true of them, and what to do about it; empty where nothing speaks against them.
    """

    labels: dict[str, Labels]
    doubts: list[str]


def ask(teacher: Teacher, image: Image) -> list[Answer]:
    """The teacher's answer for each picture, converted from what it declares and held against physics.

    Args:
        image: pictures of one size, sRGB in [-1, 1], on the CPU.

    Raises:
        ValueError: the teacher does not keep to the protocol, or refuses the pictures.
    """
    given = teacher.label(image)
    if given.keys() != teacher.declares.keys():
        raise ValueError(
            f"{teacher.name} must answer for {', '.join(teacher.declares)} as it declares, got "
            f"{', '.join(given) or 'nothing'}; correct its label()"
        )
    for name, (map, valid) in given.items():
        sizes = {image.shape[-2:], map.shape[-2:], valid.shape[-2:]}
        if len(sizes) > 1 or not len(image) == len(map) == len(valid):
            raise ValueError(
                f"{teacher.name} must answer at the pictures' {tuple(image.shape)}, got {name} {tuple(map.shape)} with "
                f"the mask {tuple(valid.shape)}; correct its label()"
            )
    return [_answer(teacher, image[index], given, index) for index in range(len(image))]


def _answer(teacher: Teacher, image: Float[Tensor, "3 h w"], given: dict[str, tuple[Map, Valid]], index: int) -> Answer:
    """The answer for the picture at ``index`` of the batch."""
    labels, doubts = {}, []
    for name, (map, valid) in given.items():
        numbers, opaque, declared = map[index].float().cpu(), valid[index].cpu(), teacher.declares[name]
        labels[name] = READERS[name].read(StoredMap(numbers, None, opaque, {}), declared)
        found = [*labels[name].doubts, *physics.doubts(name, labels[name], physics.values(numbers, declared), opaque)]
        if not labels[name].valid.any():
            found.append(Doubt("no pixel of it is valid", "leave the picture out"))
        doubts += [f"{name}: {doubt.what}; {doubt.remedy}" for doubt in found]
    doubts += [f"{doubt.what}; {doubt.remedy}" for doubt in physics.product(image, labels)]
    return Answer(labels, doubts)

"""What a fit teaches: one intrinsic, or several to one adapter, each asked for in its own words.

A generator is asked with one prompt at a time (``Generator.ask``), so a batch of several lessons is worked off lesson
by lesson and the gradients add up; no family has to know of it. Rows of all lessons are counted through: lesson after
lesson, in the order in which they are taught.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from ilora.adapters.controls import PROBES
from ilora.codes import drawing, encode, encode_pictures, mean_map, shuffled, stored, targets
from ilora.config import FitConfig
from ilora.data import dataset
from ilora.data.base import Dataset, Subset, select
from ilora.data.cache import content_hash
from ilora.data.survey import offered
from ilora.data.transforms import square
from ilora.generators.base import Generator
from ilora.intrinsics import ALL, chosen, intrinsic
from ilora.intrinsics.base import Intrinsic
from ilora.records import Record
from ilora.run import say

PICTURE = "a photo"  # the words that a picture itself is asked for with


@dataclass(frozen=True)
class Lesson:
    """One thing to paint.

    Attributes:
        prompt: the words that the generator is asked with.
        records: all that it is learned from, one row an image or its mirror image.
        kind: what is painted; None: the picture itself.
    """

    prompt: str
    records: Record
    kind: Intrinsic | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.records.code)


def labelled(config: FitConfig, on_problem: str) -> dict[str, Subset]:
    """The labelled images of each intrinsic of a fit, in order.

    With several intrinsics and a number of labels, that many images are drawn from those that have all of the maps;
    without a number each intrinsic takes all that it has. Of ``all``, those without any map in the data are left out,
    and a line says so.

    Raises:
        ValueError: what ``ilora.data.dataset`` and ``select`` refuse, or no image has all of the maps.
    """
    names = chosen(config.intrinsic)
    if config.intrinsic == ALL:
        there = offered(config.data)
        lacking = [name for name in names if name not in there]
        names = [name for name in names if name in there]
        if lacking:
            say(f"{config.data} has no maps of {' and '.join(lacking)}; the adapter learns {' and '.join(names)}")
    found = {name: dataset(config.data, intrinsic=name, on_problem=on_problem) for name in names}
    if config.labels is not None and len(found) > 1:
        found = {name: Subset(each, _common(each, found)) for name, each in found.items()}
    count = {name: len(each) if config.labels is None else config.labels for name, each in found.items()}
    return {name: select(each, count[name], seed=config.seed) for name, each in found.items()}


def _common(one: Dataset, every: dict[str, Dataset]) -> list[int]:
    """Places in ``one`` of the images that all of them have."""
    shared = set.intersection(*(set(each.names) for each in every.values()))
    if not shared:
        raise ValueError(
            f"labels must be images that have maps of {' and '.join(every)}, got none that has all; "
            "leave labels out, and each intrinsic takes the images that it has maps of"
        )
    return [place for place, name in enumerate(one.names) if name in shared]


def resolved(config: FitConfig, examples: dict[str, Subset]) -> FitConfig:
    """The configuration with the names of its intrinsics and, of a single one, the number of its labels.

    With several, no number goes on meaning that each takes all it has, which need not be one number.
    """
    labels = config.labels if len(examples) > 1 else len(next(iter(examples.values())))
    return config.replace(intrinsic=",".join(examples), labels=labels)


def story(config: FitConfig, examples: dict[str, Subset]) -> dict[str, object]:
    """What a run says of its data: name, content hash, names of the labelled images; of several, how many maps each."""
    names = list(dict.fromkeys(name for each in examples.values() for name in each.names))
    if len(examples) == 1:
        return {"name": config.data, "fingerprint": next(iter(examples.values())).fingerprint, "labels": names}
    fingerprint = content_hash({name: each.fingerprint for name, each in examples.items()})
    maps = {name: len(each) for name, each in examples.items()}
    return {"name": config.data, "fingerprint": fingerprint, "labels": names, "maps": maps}


def check(config: FitConfig, generator: Generator, examples: dict[str, Subset]) -> None:
    """Refuse what cannot be learned together.

    Raises:
        ValueError: a linear probe or a fitted readout, which are of one intrinsic; or the generator's answer to two
            of the prompts is the same, to the bit.
    """
    words = [intrinsic(name).prompt for name in examples] + [PICTURE] * (config.reconstruction > 0)
    if len(words) == 1:
        return
    if config.method in PROBES or config.readout_auto:
        wrong = f"method = {config.method}" if config.method in PROBES else "readout = auto"
        raise ValueError(f"one adapter for {' and '.join(words)} cannot have {wrong}, which is of one intrinsic; "
                         "fit each by itself, or take another")  # fmt: skip
    same = _confused(generator, words, examples)
    if same:
        raise ValueError(
            f"{generator.name} paints the same whether it is asked for {same[0]!r} or {same[1]!r}, so that one adapter "
            "cannot tell tasks apart; fit an adapter each: "
            + ", ".join(f"ilora fit --intrinsic {name}" for name in examples)
        )


@torch.no_grad()
def _confused(generator: Generator, words: Sequence[str], examples: dict[str, Subset]) -> tuple[str, str] | None:
    """Two of the prompts under which the loss on a labelled picture, with the same draws, has the same bits."""
    (name, some), device = next(iter(examples.items())), next(generator.network.parameters()).device
    image = square(some[0], intrinsic(name), side=generator.resolution).image[None].to(device)
    code = stored(generator, some[0])
    code = generator.encode(image) if code is None else code.to(device)
    target, everywhere = generator.target(image), torch.ones_like(image[:, :1], dtype=torch.bool)
    seen: dict[float, str] = {}
    for prompt in words:
        generator.ask(prompt)
        with drawing(0, seed=0, rank=0):
            answer = generator.loss(code, target, everywhere).item()
        if answer in seen:
            return seen[answer], prompt
        seen[answer] = prompt
    return None


def prepared(generator: Generator, config: FitConfig, examples: dict[str, Subset]) -> tuple[Lesson, ...]:
    """Lessons of all intrinsics and, with ``reconstruction``, of the picture itself, on the CPU; codes are cached."""
    kinds = {name: intrinsic(name) for name in examples}
    taught = [
        Lesson(kind.prompt, encode(generator, kind, examples[name], mirrored=config.mirror, relit=config.jitter), kind)
        for name, kind in kinds.items()
    ]
    if config.reconstruction:
        codes, images = encode_pictures(generator, pictures(config), mirrored=config.mirror)
        everywhere = torch.ones_like(images[:, :1], dtype=torch.bool)
        taught.append(Lesson(PICTURE, Record(codes, targets(generator, images), images, everywhere)))
    return tuple(taught)


def pictures(config: FitConfig) -> dict[str, Dataset]:
    """All examples of the training split by intrinsic, whether or not their maps are learned from."""
    with warnings.catch_warnings(action="ignore"):  # ``labelled`` has told about the folder
        return {name: dataset(config.data, intrinsic=name, on_problem="skip") for name in chosen(config.intrinsic)}


def means(lessons: Sequence[Lesson]) -> dict[str, Tensor]:
    """Mean maps, see ``ilora.codes.mean_map``; of several intrinsics ``mean.NAME`` and ``seen.NAME`` of each."""
    kinds = [lesson for lesson in lessons if lesson.kind is not None]
    found = {lesson.kind.name: mean_map(lesson.kind, lesson.records) for lesson in kinds}
    if len(found) == 1:
        return next(iter(found.values()))
    return {f"{part}.{name}": value for name, mean in found.items() for part, value in mean.items()}


def batch(lessons: Sequence[Lesson], step: int, config: FitConfig) -> Int64[Tensor, " size"]:
    """Rows of the batch of update ``step``, a function of the step and the configuration only.

    The slots of all updates are counted through. ``reconstruction`` is the share of them that the picture itself gets,
    evenly spread; the intrinsics take turns in the others. Each lesson goes through its own rows, epoch after epoch.
    """
    kinds, rows = sum(lesson.kind is not None for lesson in lessons), torch.zeros(config.batch, dtype=torch.int64)
    slots = torch.arange(step * config.batch, (step + 1) * config.batch)
    before = (slots.double() * config.reconstruction).long()  # [size], slots of the picture so far
    is_picture = ((slots + 1).double() * config.reconstruction).long() > before
    turn = slots - before
    which = torch.where(is_picture, kinds, turn % kinds)  # the picture's lesson is the last one
    place, first = torch.where(is_picture, before, turn // kinds), 0
    for number, lesson in enumerate(lessons):
        mine = which == number
        if mine.any():
            seed = order(config.seed, lesson.prompt) if number else config.seed
            rows[mine] = first + shuffled(place[mine], count=len(lesson), seed=seed)
        first += len(lesson)
    return rows


def order(seed: int, words: str) -> int:
    """A seed for the order of something that goes through its own rows beside others."""
    return int(content_hash("order", seed, words)[:7], 16)  # 28 bits: torch's generator on the CPU takes 32


def parted(lessons: Sequence[Lesson], rows: Int64[Tensor, " n"]) -> Iterator[tuple[Lesson, Int64[Tensor, " m"]]]:
    """The lessons that have some of the rows, each with its own, counted from 0."""
    first = 0
    for lesson in lessons:
        mine = rows[(rows >= first) & (rows < first + len(lesson))] - first
        if len(mine):
            yield lesson, mine
        first += len(lesson)

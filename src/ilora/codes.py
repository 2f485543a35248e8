"""What a fit learns from: codes, targets and maps of labelled examples, made once, and the order in which they come."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Int64
from torch import Tensor

from ilora.config import FitConfig
from ilora.data.base import Dataset, Subset
from ilora.data.cache import Cache, content_hash
from ilora.data.jitter import gains, relight
from ilora.data.transforms import mirror, square
from ilora.generators.base import LOST, Denoiser, Generator, lost
from ilora.generators.readout import fitted
from ilora.intrinsics import intrinsic
from ilora.intrinsics.base import Intrinsic
from ilora.records import Code, Example, Image, Record
from ilora.run import progress

READOUT_IMAGES = 32  # labels that a readout is fitted to


def encode(generator: Generator, kind: Intrinsic, examples: Dataset, *, mirrored: bool, relit: int = 0) -> Record:
    """Codes, targets, maps and masks of all examples at the generator's resolution, on the CPU.

    Codes and targets come from the cache, where they lie under the hash of the picture that they stand for, so that
    fits of other intrinsics on the same pictures find the codes there. A picture that this generator painted comes with
    the code that it was painted from, and is not encoded.

    Args:
        mirrored: each example is followed by its mirror image, encoded for itself; not one with a code of its own,
            which has no mirror image.
        relit: each of these is followed by so many copies under other light; not one with a code of its own.

    Returns:
        One row an image; maps are rounded to float16 (11 significant bits), unless one of them holds more than that
        can (65504): then all are float32.
    """
    cache, rows = Cache(), []
    with progress("codes", len(examples)) as tell:
        for index in range(len(examples)):
            given = examples[index]
            example = square(given, kind, side=generator.resolution)
            code = stored(generator, given)
            rows.append(_row(generator, kind, example, cache, code=code))
            copies = _copies(example, kind, mirrored, relit) if code is None else []
            rows += [_row(generator, kind, copy, cache) for copy in copies]
            tell(index + 1)
    return Record(*(torch.cat(column) for column in zip(*rows, strict=True)))


def _copies(example: Example, kind: Intrinsic, mirrored: bool, relit: int) -> list[Example]:
    """The example in a mirror, if wanted, and both in other light."""
    sides = [example, *([mirror(example, kind)] if mirrored else [])]
    return sides[1:] + [relight(side, kind, gain) for side in sides for gain in gains(side.image, relit)]


def encode_picture(generator: Generator, kind: Intrinsic, example: Example) -> Code:
    """The code [1, ...] of the middle square of one picture, cached as in ``encode``."""
    code = stored(generator, example)
    image = square(example, kind, side=generator.resolution).image[None]
    return _made(generator, "code", image, Cache()) if code is None else code


def encode_pictures(generator: Generator, examples: Mapping[str, Dataset], *, mirrored: bool) -> tuple[Code, Image]:
    """Codes of pictures whose maps do not matter, and the pictures, in [-1, 1] and float16.

    Args:
        examples: by intrinsic; a picture that several of them have counts once.
        mirrored: as in ``encode``.
    """
    cache, rows, seen = Cache(), [], set()
    for name, each in examples.items():
        for index, own in enumerate(each.names):
            if own in seen:
                continue
            seen.add(own)
            image = square(given := each[index], intrinsic(name), side=generator.resolution).image[None]  # [1, 3, h, w]
            code = stored(generator, given)
            sides = [image, image.flip(-1)] if mirrored and code is None else [image]
            rows += [(_made(generator, "code", x, cache) if code is None else code, x) for x in sides]
    codes, pictures = (torch.cat(column) for column in zip(*rows, strict=True))
    return codes, pictures.half()


def targets(generator: Generator, pictures: Image) -> Code:
    """What the native loss compares with where pictures themselves shall be painted, cached as in ``encode``."""
    cache = Cache()
    return torch.cat([_made(generator, "target", picture[None].float(), cache) for picture in pictures])


def stored(generator: Generator, example: Example) -> Code | None:
    """The code [1, ...] that this generator painted the whole picture from; None where there is none."""
    height, width = example.image.shape[-2:]
    mine = example.painted is not None and example.painted.generator == generator.fingerprint
    return example.painted.code[None] if mine and height == width else None


def with_fitted_readout(
    config: FitConfig, generator: Generator, kind: Intrinsic, examples: Dataset
) -> tuple[FitConfig, str]:
    """The configuration with the readout that fits the first ``READOUT_IMAGES`` labels, and a line that tells it.

    Raises:
        ValueError: the generator's network has no time steps, so that there is nothing to read.
    """
    if not isinstance(generator, Denoiser):
        raise ValueError(f"readout auto needs a network with time steps, got {generator.name}; leave readout out")
    some = Subset(examples, list(range(min(READOUT_IMAGES, len(examples)))))
    readout, rest = fitted(generator, encode(generator, kind, some, mirrored=False), masked=config.masked)
    tried = ", ".join(f"{share:.3f} at {timestep}" for timestep, share in rest.items())
    told = (
        f"readout from {len(some)} labels: timestep {readout.timestep}, x = {readout.image:g} z + {readout.output:g} o "
        f"(share of the target's power that is left, by timestep: {tried})"
    )
    fields = {"timestep": readout.timestep, "readout_image": readout.image, "readout_output": readout.output}
    return config.replace(**fields, readout_auto=False), told


def placed(records: Record, device: torch.device) -> Record:
    """All rows on the GPU where they take at most a quarter of its free memory; otherwise each batch travels."""
    columns = vars(records)
    size = sum(value.nbytes for value in columns.values())
    if device.type != "cuda" or size > torch.cuda.mem_get_info(device)[0] / 4:
        return records
    return Record(**{name: value.to(device) for name, value in columns.items()})


def batch(step: int, *, size: int, count: int, seed: int) -> Int64[Tensor, " size"]:
    """Rows of the batch of update ``step``, a function of the step and the seed only; see ``shuffled``."""
    return shuffled(torch.arange(step * size, (step + 1) * size), count=count, seed=seed)


def shuffled(places: Int64[Tensor, " n"], *, count: int, seed: int) -> Int64[Tensor, " n"]:
    """Rows at ascending places of an order without end, a function of the seed only.

    Epochs follow each other without a gap; each is a permutation of all ``count`` rows, drawn for itself.
    """
    drawn = {
        epoch: torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        for epoch in range(int(places[0]) // count, int(places[-1]) // count + 1)
    }
    return torch.stack([drawn[place // count][place % count] for place in places.tolist()])


@contextmanager
def drawing(step: int, *, seed: int, rank: int) -> Iterator[None]:
    """Within it, torch's random state on the CPU is a function of update, seed and process; afterwards it is as before.

    It is where a generator's loss draws its noise from (``Generator.loss``): what update ``step`` draws does not depend
    on those before it, so a killed and resumed fit draws the same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(content_hash(str(seed), str(step), str(rank))[:15], 16))
        yield


def mean_map(kind: Intrinsic, records: Record) -> dict[str, Tensor]:
    """The answer that knows the labels and no picture.

    Returns:
        ``mean`` [c, h, w], in the map's units, over the rows where a pixel is valid; ``seen`` [1, h, w], their share.
    """
    total, seen = torch.zeros(records.map.shape[1:]), torch.zeros(records.valid.shape[1:])
    for map, valid in zip(records.map.cpu(), records.valid.cpu(), strict=True):
        total, seen = total + torch.where(valid, map.float(), 0), seen + valid
    mean = (total / seen.clamp(min=1))[None]
    return {"mean": kind.resize(mean, *mean.shape[-2:])[0], "seen": seen / len(records.valid)}


def _row(
    generator: Generator, kind: Intrinsic, example: Example, cache: Cache, *, code: Code | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Code (the given one, or that of the picture), target, map and mask, each with a leading axis of 1."""
    device = next(generator.network.parameters()).device
    image, map, valid = example.image[None], example.map[None], example.valid[None]
    painted = kind.to_image(map, valid)
    code = _made(generator, "code", image, cache) if code is None else code
    residual = lost(generator, image.to(device), code.to(device))
    if residual is not None:  # what the code cannot know is nothing to learn from
        valid = valid & (residual.cpu() < LOST)
    fits = map.abs().max() <= torch.finfo(torch.float16).max
    return code, _made(generator, "target", painted, cache), map.half() if fits else map, valid


def _made(generator: Generator, part: str, picture: Image, cache: Cache) -> Code:
    """Code or target of one picture, from the cache where it is there."""
    device = next(generator.network.parameters()).device
    paint = generator.encode if part == "code" else generator.target
    key = (part, generator.fingerprint, device.type, picture)
    return cache.get(*key, make=lambda: {part: paint(picture.to(device))})[part]

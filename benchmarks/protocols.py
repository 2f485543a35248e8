"""One prediction under all protocols of its intrinsic: how far their numbers differ.

    python benchmarks/protocols.py --demo [--images 24]
    python benchmarks/protocols.py --adapter RUN [--data rooms] [--split test] [--images 24]
    python benchmarks/protocols.py --maps FOLDER --quantity disparity --data DATA [--split test] [--images 24]

``--demo`` judges the true maps of the test rooms after a disturbance that ``DISTURBED`` states, drawn from seed 0, and
with a part of each image masked. ``--adapter`` judges what a run predicts, ``--maps`` what any program has written: a
file an image, NAME.npy or NAME.QUANTITY.npy (or .npz, .exr, .png, .tif), with the meta.toml of a folder of labels where
axes are not RUB, colours not linear, or integers scaled. Prints a Markdown table an intrinsic.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ilora import images as files
from ilora import protocols
from ilora.data import dataset, meta
from ilora.data.labels import METRES, READERS
from ilora.intrinsics import intrinsic
from ilora.ops.geometry import normalize
from ilora.predict import Predictor
from ilora.report import number

Case = tuple[Tensor, Tensor, Tensor]  # prediction, truth, mask

DISTURBED = {
    "normal": "noise added to the vectors, its size from 0 for the first image to .4 for the last",
    "depth": "(.4 z + .7) exp(.1 s) with smooth noise s; 2 % of the pixels are drawn anew from the map's range",
    "disparity": "1 / (z exp(.1 s)), halved, plus .2; 2 % of the pixels are drawn anew from the map's range",
    "albedo": "halved, times exp(.2 s) with smooth noise s",
    "shading": "tripled, times exp(.2 s) with smooth noise s",
}
COLUMNS = {
    "normal": ("mean_angle", "median_angle", "within_11.25", "within_30"),
    "depth": ("abs_rel", "rmse", "silog", "delta1"),
    "disparity": ("abs_rel", "rmse", "silog", "delta1"),
    "albedo": ("mse", "psnr", "ssim", "si_mse", "lmse", "lmse_20"),
    "shading": ("mse", "psnr", "ssim", "si_mse", "lmse", "lmse_20"),
}


def disturbed(quantity: str, truth: Tensor, size: float, generator: torch.Generator) -> Tensor:
    """A prediction made of the truth [1, c, h, w] as ``DISTURBED`` says; ``size`` in [0, 1] grows with the image."""
    coarse = torch.randn(1, 1, 6, 6, generator=generator)
    smooth = interpolate(coarse, truth.shape[-2:], mode="bicubic", align_corners=False)
    if quantity == "normal":
        return normalize(truth + 0.4 * size * torch.randn(truth.shape, generator=generator))
    if quantity in ("albedo", "shading"):
        return {"albedo": 0.5, "shading": 3.0}[quantity] * truth * (0.2 * smooth).exp()
    uneven = (0.1 * smooth).exp()
    map = (0.4 * truth + 0.7) * uneven if quantity == "depth" else 0.5 / (truth.clamp(min=1e-3) * uneven) + 0.2
    low, high = map.quantile(0.02), map.quantile(0.98)
    drawn = low + (high - low) * torch.rand(map.shape, generator=generator)
    return torch.where(torch.rand(map.shape, generator=generator) < 0.02, drawn, map)


def demo(quantity: str, images: int) -> Iterator[Case]:
    """Disturbed truths of the test rooms; of each image the first 20 to 100 % of the columns count."""
    examples = dataset("rooms", intrinsic="depth" if quantity == "disparity" else quantity, split="test")
    generator = torch.Generator().manual_seed(0)
    count = min(images, len(examples))
    for place in range(count):
        truth, valid = examples[place].map[None], examples[place].valid[None]
        share = 0.2 + 0.8 * torch.rand(1, generator=generator).item()
        seen = torch.arange(valid.shape[-1]) < share * valid.shape[-1]
        yield disturbed(quantity, truth, place / max(1, count - 1), generator), truth, valid & seen


def predicted(predictor: Predictor, data: str, split: str, images: int) -> Iterator[Case]:
    """What an adapter paints for a data set."""
    (name,) = predictor.names
    examples = dataset(data, intrinsic=name, split=split)
    for place in range(min(images, len(examples))):
        example = examples[place]
        yield predictor.maps(example.image[None])[name].cpu(), example.map[None], example.valid[None]


def stored(folder: Path, quantity: str, data: str, split: str, images: int) -> Iterator[Case]:
    """Maps in files, by the names of the images of a data set; pixels that are declared invalid count as 0.

    Raises:
        ValueError: an image without a map, or a map that cannot be read.
    """
    name = "depth" if quantity == "disparity" else quantity
    examples, reader = dataset(data, intrinsic=name, split=split), READERS[name]
    about = meta.read(folder).tables[reader.folder]
    found = {path.stem.removesuffix(f".{quantity}"): path for path in reversed(files.find_maps(folder))}
    for place in range(min(images, len(examples))):
        example = examples[place]
        if example.name not in found:
            raise ValueError(f"{folder} must hold a map of every image, got none of {example.name}; name it so")
        read = files.read_map(found[example.name], channels=about.channels)
        if name == "depth":  # may be negative where it is known up to a shift, which labels cannot be
            scale = (1.0 if about.scale is None else about.scale) * METRES[about.unit or "m"]
            map = read.values[:1] * scale + about.offset * METRES[about.unit or "m"]
        else:
            map = reader.read(read, about).map
        map = intrinsic(name).resize(map[None], *example.map.shape[-2:])
        yield map, example.map[None], example.valid[None]


def table(quantity: str, cases: Callable[[], Iterator[Case]], images: int) -> str:
    """A Markdown table: a row a protocol, a column a metric; what a protocol does not measure is a dash."""
    chosen = [protocols.protocol(name) for name in protocols.names(quantity)]
    tallies = [protocols.Tally(images) for _ in chosen]
    for place, case in enumerate(cases()):
        for protocol, tally in zip(chosen, tallies, strict=True):
            tally.add(torch.tensor([place]), protocols.judge(protocol, quantity, *case))
    columns = [name for name in COLUMNS[quantity] if any(name in tally.errors for tally in tallies)]
    lines = [f"| {quantity} | {' | '.join(columns)} | pixels |", "|---" * (len(columns) + 2) + "|"]
    for protocol, tally in zip(chosen, tallies, strict=True):
        found = tally.summaries(resamples=1)
        cells = [number(found[name].mean) if name in found else "–" for name in columns]
        lines.append(f"| `{protocol.name}` | {' | '.join(cells)} | {int(tally.pixels.sum()):,} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--demo", action="store_true", help="disturbed true maps of the test rooms")
    source.add_argument("--adapter", type=Path, help="run folder or adapter file")
    source.add_argument("--maps", type=Path, help="folder of maps that any program has written")
    parser.add_argument("--quantity", choices=list(DISTURBED), help="of --maps")
    parser.add_argument("--data", default="rooms")
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=24, help="at most so many")
    given = parser.parse_args(words)
    if given.demo:
        for quantity, how in DISTURBED.items():
            print(f"{quantity}: {how}\n\n{table(quantity, partial(demo, quantity, given.images), given.images)}\n")
        return
    if given.maps:
        if not given.quantity:
            parser.error("--maps needs --quantity")
        cases = partial(stored, given.maps, given.quantity, given.data, given.split, given.images)
        print(table(given.quantity, cases, given.images))
        return
    predictor = Predictor(given.adapter)
    (name,) = predictor.names
    print(table(name, partial(predicted, predictor, given.data, given.split, given.images), given.images))


if __name__ == "__main__":
    main()

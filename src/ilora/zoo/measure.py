"""Measure a trained generator and its ladder, and write the card: codec ceilings, quality, samples, loss curves."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from ilora import data, intrinsics
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.images import contact_sheet, write_preview
from ilora.ops import color, resample
from ilora.records import Image
from ilora.run import read_json, write_json
from ilora.zoo import quality, scene_encoder
from ilora.zoo.loop import snapshots
from ilora.zoo.pictures import Pictures, read_pictures
from ilora.zoo.recipes import Recipe, recipe
from ilora.zoo.train import rung

PAINTED = 256  # pictures that quality is measured on
STEPS = 20  # of the sampler
SHOWN = 24  # pictures on a sheet
PARTS = ("vae", "unet", "text_encoder")
STAGES = ("codec", "denoiser")  # fields of the recipe; the first only where the codec is its own
CEILING = "true maps of the rooms test split through the frozen codec, mean over images"


@dataclass(frozen=True)
class Finished:
    """A finished training, opened to be measured.

    Attributes:
        recipe: that was trained.
        out: the training's folder.
        shown: pictures that it learned from.
        held: pictures that it never saw; quality is measured against them.
        generator: what was trained, as users load it.
    """

    recipe: Recipe
    out: Path
    shown: Pictures
    held: Pictures
    generator: Generator

    @property
    def place(self) -> Path:
        """The generator's folder."""
        return self.out / "generator"

    def data(self, words: str) -> str:
        """What it learned from; ``words`` tells of captions."""
        seeds = self.shown.seeds
        return f"{len(self.shown):,} rooms, {self.recipe.size} px, seeds {seeds[0]} to {seeds[-1]}; {words}"


def write_card(name: str, pictures: Path | str, out: Path | str) -> Path:
    """Measure what ``train`` left in ``out`` and write ``card.json`` and ``samples.png`` beside the weights.

    Args:
        name: the recipe that was trained.
        pictures: the shards that it was trained on; its held-out pictures are what quality is measured against.
        out: the training's folder.

    Returns:
        The pipeline's folder, complete.
    """
    done = finished(name, pictures, out)
    captions, stages = done.held.captions[:PAINTED], STAGES[1:] if done.recipe.codec_from else STAGES
    write_json(
        done.place / "card.json",
        facts(done, parts=PARTS, stages=stages)
        | {
            "data": done.data("captions"),
            "ceiling_protocol": CEILING,
            "ceiling": ceiling(done.generator),
            "quality_protocol": f"{len(captions)} pictures for captions of held-out scenes against {len(done.held)} "
            f"held-out pictures; {STEPS} steps, no guidance; scene encoder v{scene_encoder.VERSION}",
            "ladder": ladder(done, "denoiser", rung, lambda generator: paint(generator, captions)),
        },
    )
    told_sheet(done.generator, done.held, done.place / "samples.png")
    return done.place


def finished(name: str, pictures: Path | str, out: Path | str) -> Finished:
    """Open what a training left."""
    chosen, out = recipe(name), Path(out)
    shown, held = read_pictures(pictures, limit=chosen.pictures, size=chosen.size).split(chosen.held_out)
    return Finished(chosen, out, shown, held, load(str(out / "generator")))


def ladder(
    done: Finished,
    stage: str,
    rung: Callable[[str, Path, Path, Path], Path],
    paint: Callable[[Generator], Image],
    *,
    more: Callable[[Generator], dict[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Quality of every snapshot of a stage; each is measured once with a scene encoder and kept in ``out/ladder``.

    Args:
        rung: name, training's folder, snapshot and place to the folder of a generator.
        paint: generator to the pictures that are compared with the held-out ones.
        more: generator to further numbers.
    """
    rows = []
    for snapshot in snapshots(done.out / stage):
        kept = done.out / "ladder" / f"{snapshot.stem}.json"
        row = read_json(kept) if kept.exists() else {}
        if row.get("encoder") != scene_encoder.VERSION:
            place = rung(done.recipe.name, done.out, snapshot, done.out / "ladder" / snapshot.stem)
            generator = load(str(place))
            found = quality.measure(paint(generator), done.held.images(slice(None)))
            extra = more(generator) if more else {}
            row = {"images": int(snapshot.stem), "encoder": scene_encoder.VERSION} | extra | found
            write_json(kept, row)
        rows.append(row)
    return rows


def facts(done: Finished, *, parts: Sequence[str], stages: Sequence[str]) -> dict:
    """What can be read off the training's files.

    Args:
        parts: folders of weights, or their files, in ``out/generator``.
        stages: trainings, which are fields of the recipe and folders in ``out``.
    """
    chosen, sizes = done.recipe, {Path(part).stem: _weights(done.place / part) for part in parts}
    return {
        "description": chosen.description,
        "recipe": chosen.write(),
        "parameters": {part: count for part, (count, _) in sizes.items()},
        "megabytes": sum(size for _, size in sizes.values()) / 1e6,
        "images_seen": {stage: getattr(chosen, stage).steps * getattr(chosen, stage).batch for stage in stages},
        "loss": {stage: _curve(done.out / stage / "log.jsonl") for stage in stages},
    }


def paint(generator: Generator, captions: Sequence[str], *, guidance: float = 1.0, batch: int = 32) -> Image:
    """One picture for each caption; picture i is drawn from seed i."""
    parts = []
    for begin in range(0, len(captions), batch):
        words = captions[begin : begin + batch]
        seeds = range(begin, begin + len(words))
        parts.append(generator.sample(seeds, words, steps=STEPS, guidance=guidance)[0].cpu())
    return torch.cat(parts)


@torch.no_grad()
def ceiling(generator: Generator, split: str = "test") -> dict[str, dict[str, float]]:
    """How well the frozen codec draws true maps that it never saw, at the generator's size.

    Returns:
        For each intrinsic its primary metric, and ``psnr`` [dB] of the image that stands for the map.
    """
    rows = {}
    for name in intrinsics.NAMES:
        kind = intrinsics.intrinsic(name)
        errors, ratios = [], []
        for example in data.dataset("rooms", intrinsic=name, split=split):
            truth, valid = example.map[None], example.valid[None]
            image = kind.to_image(truth, valid)
            height, width = truth.shape[-2:]
            small = resample.resize(image, *generator.size(height, width))
            painted = resample.resize(generator.decode(generator.target(small)), height, width).clamp(-1, 1)
            errors.append(kind.metrics(kind.from_image(painted), truth, valid)[kind.primary])
            ratios.append(_psnr(painted, image, valid))
        rows[name] = {kind.primary: float(torch.cat(errors).mean()), "psnr": float(torch.stack(ratios).mean())}
    return rows


def _psnr(a: Image, b: Image, valid: Tensor) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio [dB] of images in [-1, 1] over valid pixels."""
    squared = ((a - b) / 2).square()[valid.expand_as(a)]
    return -10 * squared.mean().log10()


def sheet(painted: Image, path: Path, about: dict[str, str]) -> None:
    """``SHOWN`` pictures in rows of eight; the file's metadata say what they are."""
    shown = list(color.to_uint8((painted + 1) / 2))
    rows = [shown[begin : begin + 8] for begin in range(0, len(shown), 8)]
    write_preview(path, contact_sheet(rows, [""] * 8), about=about)


def told_sheet(generator: Generator, held: Pictures, path: Path) -> None:
    """Pictures painted for captions of held-out scenes, guided."""
    captions = held.captions[:SHOWN]
    sheet(paint(generator, captions, guidance=2.5), path, {"captions": "; ".join(captions)})


def _weights(folder: Path) -> tuple[int, int]:
    """Number of weights and size in bytes of one part of a generator: a folder of files, or one file."""
    count = size = 0
    for path in folder.glob("*.safetensors") if folder.is_dir() else [folder]:
        count += sum(value.numel() for value in load_file(path).values())
        size += path.stat().st_size
    return count, size


def _curve(log: Path, points: int = 12) -> list[dict]:
    """Evenly spaced rows of a training log: images seen and running loss."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    last = len(rows) - 1
    chosen = sorted({round(i * last / (points - 1)) for i in range(points)})
    return [{"images": rows[i]["images"], "loss": round(rows[i]["loss"], 5)} for i in chosen]

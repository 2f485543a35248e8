"""Measure a trained generator and its ladder, and write the card: codec ceilings, quality, samples, loss curves."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from ilora import data, intrinsics
from ilora.config import Configuration
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.images import contact_sheet, write_preview
from ilora.ops import color
from ilora.records import Image
from ilora.run import write_json
from ilora.zoo import quality
from ilora.zoo.pictures import Pictures, read_pictures
from ilora.zoo.recipes import Recipe, recipe
from ilora.zoo.train import rung

PAINTED = 256  # pictures that quality is measured on
STEPS = 20  # of the sampler
PARTS = ("vae", "unet", "text_encoder")
STAGES = ("codec", "denoiser")  # that were trained, fields of the recipe


def write_card(name: str, pictures: Path | str, out: Path | str) -> Path:
    """Measure what ``train`` left in ``out`` and write ``card.json`` and ``samples.png`` beside the weights.

    Args:
        name: the recipe that was trained.
        pictures: the shards that it was trained on; its held-out pictures are what quality is measured against.
        out: the training's folder.

    Returns:
        The pipeline's folder, complete.
    """
    chosen, out = recipe(name), Path(out)
    shown, held = read_pictures(pictures, limit=chosen.pictures).split(chosen.held_out)
    encoder = scene_encoder(shown, out / "encoder")
    place = out / "generator"
    generator = load(str(place))
    snapshots = sorted((out / "denoiser" / "snapshots").iterdir())
    write_json(
        place / "card.json",
        facts(chosen, out, parts=PARTS, stages=STAGES)
        | {
            "data": f"{len(shown):,} rooms, {chosen.size} px, seeds {shown.seeds[0]} to {shown.seeds[-1]}; captions",
            "ceiling_protocol": "true maps of the rooms test split through the frozen codec, mean over images",
            "ceiling": ceiling(generator),
            "quality_protocol": f"{PAINTED} pictures for captions of held-out scenes against {len(held)} held-out "
            f"pictures; {STEPS} steps, no guidance; scene encoder v{quality.VERSION}",
            "ladder": [measure_rung(chosen, out, path, encoder, held) for path in snapshots],
        },
    )
    sheet(generator, held, place / "samples.png")
    return place


def facts(chosen: Configuration, out: Path, *, parts: Sequence[str], stages: Sequence[str]) -> dict:
    """What can be read off the training's files.

    Args:
        parts: folders of weights in ``out/generator``.
        stages: trainings, which are fields of the recipe and folders in ``out``.
    """
    sizes = {part: _weights(out / "generator" / part) for part in parts}
    return {
        "description": chosen.description,
        "recipe": chosen.write(),
        "parameters": {part: count for part, (count, _) in sizes.items()},
        "megabytes": sum(size for _, size in sizes.values()) / 1e6,
        "images_seen": {stage: getattr(chosen, stage).steps * getattr(chosen, stage).batch for stage in stages},
        "loss": {stage: _curve(out / stage / "log.jsonl") for stage in stages},
    }


def scene_encoder(shown: Pictures, folder: Path) -> quality.SceneEncoder:
    """The frozen scene encoder, trained the first time."""
    return quality.train_encoder(shown, folder).eval().requires_grad_(False)


def paint(generator: Generator, captions: Sequence[str], *, guidance: float = 1.0, batch: int = 32) -> Image:
    """One picture for each caption; picture i is drawn from seed i."""
    parts = []
    for begin in range(0, len(captions), batch):
        words = captions[begin : begin + batch]
        seeds = range(begin, begin + len(words))
        parts.append(generator.sample(seeds, words, steps=STEPS, guidance=guidance)[0].cpu())
    return torch.cat(parts)


def measure_rung(
    chosen: Recipe, out: Path, snapshot: Path, encoder: quality.SceneEncoder, held: Pictures
) -> dict[str, float]:
    """Quality of one snapshot of the ladder; measured once and kept beside it."""
    kept = out / "ladder" / f"{snapshot.stem}.json"
    if not kept.exists():
        generator = load(str(rung(chosen.name, out, snapshot, out / "ladder" / snapshot.stem)))
        painted = paint(generator, held.captions[:PAINTED])
        write_json(kept, {"images": int(snapshot.stem)} | quality.measure(encoder, painted, held.images(slice(None))))
    return json.loads(kept.read_text())


@torch.no_grad()
def ceiling(generator: Generator, split: str = "test") -> dict[str, dict[str, float]]:
    """How well the frozen codec draws true maps that it never saw.

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
            painted = generator.decode(generator.target(image)).clamp(-1, 1)
            errors.append(kind.metrics(kind.from_image(painted), truth, valid)[kind.primary])
            ratios.append(_psnr(painted, image, valid))
        rows[name] = {kind.primary: float(torch.cat(errors).mean()), "psnr": float(torch.stack(ratios).mean())}
    return rows


def _psnr(a: Image, b: Image, valid: Tensor) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio [dB] of images in [-1, 1] over valid pixels."""
    squared = ((a - b) / 2).square()[valid.expand_as(a)]
    return -10 * squared.mean().log10()


def sheet(generator: Generator, held: Pictures, path: Path) -> None:
    """24 pictures painted for captions of held-out scenes, guided; rows of eight."""
    painted = color.to_uint8((paint(generator, held.captions[:24], guidance=2.5) + 1) / 2)
    rows = [list(painted[begin : begin + 8]) for begin in range(0, 24, 8)]
    write_preview(path, contact_sheet(rows, [""] * 8), about={"captions": "; ".join(held.captions[:24])})


def _weights(folder: Path) -> tuple[int, int]:
    """Number of weights and size in bytes of one part of a pipeline."""
    count = size = 0
    for path in folder.glob("*.safetensors"):
        count += sum(value.numel() for value in load_file(path).values())
        size += path.stat().st_size
    return count, size


def _curve(log: Path, points: int = 12) -> list[dict]:
    """Evenly spaced rows of a training log: images seen and running loss."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    last = len(rows) - 1
    chosen = sorted({round(i * last / (points - 1)) for i in range(points)})
    return [{"images": rows[i]["images"], "loss": round(rows[i]["loss"], 5)} for i in chosen]

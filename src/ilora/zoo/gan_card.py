"""Measure a trained GAN and its ladder, and write its card: quality, and how well it paints pictures it never saw."""

from pathlib import Path

import torch

from ilora.generators.base import LOST, Generator, lost
from ilora.generators.stylegan_files import ENCODER, WEIGHTS
from ilora.records import Image
from ilora.run import write_json
from ilora.zoo import scene_encoder
from ilora.zoo.gan import rung
from ilora.zoo.measure import PAINTED, SHOWN, facts, finished, ladder, sheet

STAGES = ("decoder", "gan", "encoder")
INVERTED = 64  # held-out pictures that are encoded and painted again


def write_card(name: str, pictures: Path | str, out: Path | str) -> Path:
    """Measure what ``ilora.zoo.gan.train`` left in ``out``; write ``card.json`` and ``samples.png`` beside the weights.

    Args:
        name: the recipe that was trained.
        pictures: the shards that it was trained on; its held-out pictures are what quality is measured against.
        out: the training's folder.

    Returns:
        The generator's folder, complete.
    """
    done = finished(name, pictures, out)
    seen = done.held.images(slice(0, INVERTED))
    painted = min(PAINTED, len(done.held))
    write_json(
        done.place / "card.json",
        facts(done, parts=(WEIGHTS, ENCODER), stages=STAGES)
        | {
            "data": done.data("no captions"),
            "ceiling_protocol": f"{len(seen)} held-out pictures through encoder and {done.recipe.refinement} steps of "
            f"descent; residual in units of [-1, 1], lost: share of pixels above {LOST}",
            "ceiling": {"picture": inversion(done.generator, seen)},
            "quality_protocol": f"{painted} pictures, no truncation, against {len(done.held)} held-out pictures; "
            f"scene encoder v{scene_encoder.VERSION}",
            "ladder": ladder(done, "gan", rung, lambda generator: paint(generator, painted)),
        },
    )
    sheet(paint(done.generator, SHOWN), done.place / "samples.png", {"seeds": f"0 to {SHOWN - 1}"})
    return done.place


def inversion(generator: Generator, images: Image) -> dict[str, float]:
    """How closely a generator paints pictures that it never saw.

    Returns:
        ``residual`` and ``lost``, means over images, and ``psnr`` [dB] of the pictures painted again.
    """
    codes = torch.cat([generator.encode(part) for part in images.split(16)])
    with torch.no_grad():
        painted = torch.cat([generator.forward(part).clamp(-1, 1) for part in codes.split(16)])
    off = lost(generator, images, codes)
    squared = ((painted - images) / 2).square().mean((1, 2, 3))
    return {
        "residual": off.mean().item(),
        "lost": (off >= LOST).float().mean().item(),
        "psnr": (-10 * squared.log10()).mean().item(),
    }


def paint(generator: Generator, count: int, *, batch: int = 32) -> Image:
    """Pictures of the seeds 0, 1, ..."""
    seeds = list(range(count))
    return torch.cat([generator.sample(seeds[begin : begin + batch])[0].cpu() for begin in range(0, count, batch)])

"""Measure a trained GAN and its ladder, and write its card: quality, and how well it paints pictures it never saw."""

import json
from pathlib import Path

import torch

from ilora.generators import load
from ilora.generators.base import LOST, Generator, lost
from ilora.generators.stylegan_files import ENCODER, WEIGHTS
from ilora.images import contact_sheet, write_preview
from ilora.ops import color
from ilora.records import Image
from ilora.run import write_json
from ilora.tensors import read
from ilora.zoo import quality
from ilora.zoo.gan import rung
from ilora.zoo.gan_recipes import GanRecipe, recipe
from ilora.zoo.measure import PAINTED, facts, scene_encoder
from ilora.zoo.pictures import Pictures, read_pictures

STAGES = ("gan", "encoder")
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
    chosen, out = recipe(name), Path(out)
    shown, held = read_pictures(pictures, limit=chosen.pictures).split(chosen.held_out)
    encoder = scene_encoder(shown, out / "scene_encoder")
    place = out / "generator"
    generator = load(str(place))
    snapshots = sorted((out / "gan" / "snapshots").iterdir())
    parts = {"generator": place / WEIGHTS, "encoder": place / ENCODER}
    write_json(
        place / "card.json",
        facts(chosen, out, parts=(), stages=STAGES)
        | {
            "parameters": {
                part: sum(value.numel() for value in read(path)[0].values()) for part, path in parts.items()
            },
            "megabytes": sum(path.stat().st_size for path in parts.values()) / 1e6,
            "data": f"{len(shown):,} rooms, {chosen.size} px, seeds {shown.seeds[0]} to {shown.seeds[-1]}; no captions",
            "ceiling_protocol": f"{min(INVERTED, len(held))} held-out pictures through encoder and {chosen.refinement} "
            f"steps of descent; residual in units of [-1, 1], lost: share of pixels above {LOST}",
            "ceiling": {"picture": inversion(generator, held.images(slice(0, INVERTED)))},
            "quality_protocol": f"{min(PAINTED, len(held))} pictures, no truncation, against {len(held)} held-out "
            f"pictures; scene encoder v{quality.VERSION}",
            "ladder": [measure_rung(chosen, out, path, encoder, held) for path in snapshots],
        },
    )
    sheet(generator, place / "samples.png")
    return place


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


def measure_rung(
    chosen: GanRecipe, out: Path, snapshot: Path, encoder: quality.SceneEncoder, held: Pictures
) -> dict[str, float]:
    """Quality of one snapshot of the ladder; measured once and kept beside it."""
    kept = out / "ladder" / f"{snapshot.stem}.json"
    if not kept.exists():
        generator = load(str(rung(chosen.name, out, snapshot, out / "ladder" / snapshot.stem)))
        painted = paint(generator, min(PAINTED, len(held)))
        write_json(kept, {"images": int(snapshot.stem)} | quality.measure(encoder, painted, held.images(slice(None))))
    return json.loads(kept.read_text())


def paint(generator: Generator, count: int, *, batch: int = 32) -> Image:
    """Pictures of the seeds 0, 1, ..."""
    seeds = list(range(count))
    return torch.cat([generator.sample(seeds[begin : begin + batch])[0].cpu() for begin in range(0, count, batch)])


def sheet(generator: Generator, path: Path) -> None:
    """24 pictures, not chosen: the first seeds; rows of eight."""
    painted = color.to_uint8((paint(generator, 24) + 1) / 2)
    rows = [list(painted[begin : begin + 8]) for begin in range(0, 24, 8)]
    write_preview(path, contact_sheet(rows, [""] * 8), about={"seeds": "0 to 23"})

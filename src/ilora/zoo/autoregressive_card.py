"""Measure a trained generator of tokens and its ladder, and write its card: what ``ilora.zoo.measure`` says of
diffusion, and how many bits a token takes."""

import json
from pathlib import Path

import torch

from ilora.generators import load
from ilora.generators.base import Generator
from ilora.run import write_json
from ilora.zoo import quality
from ilora.zoo.autoregressive import TokenRecipe, bits_per_token, recipe, rung, vocabulary
from ilora.zoo.measure import PAINTED, ceiling, facts, paint, scene_encoder, sheet
from ilora.zoo.pictures import Pictures, read_pictures

STAGES = ("codec", "prior")


def write_card(name: str, pictures: Path | str, out: Path | str) -> Path:
    """Measure what ``train`` left in ``out`` and write ``card.json`` and ``samples.png`` beside the weights.

    Args:
        name: the recipe that was trained.
        pictures: the shards that it was trained on; its held-out pictures are what quality is measured against.
        out: the training's folder.

    Returns:
        The generator's folder, complete.
    """
    chosen, out = recipe(name), Path(out)
    shown, held = read_pictures(pictures, limit=chosen.pictures).split(chosen.held_out)
    encoder = scene_encoder(shown, out / "encoder")
    place = out / "generator"
    generator = load(str(place))
    ladder = [
        measure_rung(chosen, out, path, encoder, held) for path in sorted((out / "prior" / "snapshots").iterdir())
    ]
    write_json(
        place / "card.json",
        facts(chosen, out, parts=("vqvae", "prior"), stages=STAGES)
        | {
            "data": f"{len(shown):,} rooms, {chosen.size} px, seeds {shown.seeds[0]} to {shown.seeds[-1]}; captions",
            "ceiling_protocol": "true maps of the rooms test split through the frozen codec, mean over images",
            "ceiling": ceiling(generator),
            "quality_protocol": f"{min(PAINTED, len(held))} pictures for captions of held-out scenes against "
            f"{len(held)} held-out ones, no guidance; scene encoder v{quality.VERSION}; bits a token of those",
            "ladder": ladder,
        }
        | usage(generator, held),
    )
    sheet(generator, held, place / "samples.png")
    return place


def measure_rung(
    chosen: TokenRecipe, out: Path, snapshot: Path, encoder: quality.SceneEncoder, held: Pictures
) -> dict[str, float]:
    """Quality of one snapshot of the ladder; measured once and kept beside it."""
    kept = out / "ladder" / f"{snapshot.stem}.json"
    if not kept.exists():
        generator = load(str(rung(chosen.name, out, snapshot, out / "ladder" / snapshot.stem)))
        painted = paint(generator, held.captions[:PAINTED])
        found = quality.measure(encoder, painted, held.images(slice(None)))
        words = vocabulary(chosen, [], out / "words.json").tokens(held.captions)
        bits = bits_per_token(generator.prior.network, words, tokens(generator, held), chosen.entries)
        write_json(kept, {"images": int(snapshot.stem), "bits_per_token": bits} | found)
    return json.loads(kept.read_text())


def tokens(generator: Generator, pictures: Pictures) -> torch.Tensor:
    """Tokens [n, cells] of pictures."""
    parts = torch.arange(len(pictures)).split(32)
    return torch.cat([generator.encode(pictures.images(index)).flatten(1).long() for index in parts])


def usage(generator: Generator, pictures: Pictures) -> dict[str, float]:
    """How much of the codebook pictures use: the share of entries that occur, and 2 to the entropy of their shares."""
    counts = torch.bincount(tokens(generator, pictures).flatten(), minlength=generator.codec.size).double()
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * shares.log2()).sum()
    return {"entries_used": float((counts > 0).double().mean()), "entries_perplexity": float(2**entropy)}

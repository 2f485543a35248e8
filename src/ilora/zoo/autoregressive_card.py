"""Measure a trained generator of tokens and its ladder, and write its card: what ``ilora.zoo.measure`` says of
diffusion, and how many bits a token takes."""

from pathlib import Path

import torch

from ilora.generators.base import Generator
from ilora.run import write_json
from ilora.zoo import scene_encoder
from ilora.zoo.autoregressive import bits_per_token, rung, vocabulary
from ilora.zoo.measure import CEILING, PAINTED, ceiling, facts, finished, ladder, paint, told_sheet
from ilora.zoo.pictures import Pictures

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
    done = finished(name, pictures, out)
    held, captions = done.held, done.held.captions[:PAINTED]
    words = vocabulary(done.recipe, [], done.out / "words.json").tokens(held.captions)

    def bits(generator: Generator) -> dict[str, float]:
        rows = tokens(generator, held)
        return {"bits_per_token": bits_per_token(generator.prior.network, words, rows, done.recipe.entries)}

    write_json(
        done.place / "card.json",
        facts(done, parts=("vqvae", "prior"), stages=STAGES)
        | {
            "data": done.data("captions"),
            "ceiling_protocol": CEILING,
            "ceiling": ceiling(done.generator),
            "quality_protocol": f"{len(captions)} pictures for captions of held-out scenes against {len(held)} "
            f"held-out ones, no guidance; scene encoder v{scene_encoder.VERSION}; bits a token of those",
            "ladder": ladder(done, "prior", rung, lambda generator: paint(generator, captions), more=bits),
        }
        | usage(done.generator, held),
    )
    told_sheet(done.generator, held, done.place / "samples.png")
    return done.place


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

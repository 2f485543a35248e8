"""The frozen network in whose features pictures are compared: it reads the renderer's factors off a picture.

One file, shipped with the package and made by ``ilora zoo train scene-encoder``, serves all generators, so that their
distances compare. It sees every picture at ``SIDE`` pixels.
"""

import functools
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora import tensors
from ilora.ops import resample
from ilora.run import say
from ilora.zoo.cards import WEIGHTS
from ilora.zoo.loop import chosen_device, mixed
from ilora.zoo.loop import train as minimise
from ilora.zoo.pictures import Pictures, moved, read_pictures
from ilora.zoo.recipes import EncoderRecipe, recipe
from ilora.zoo.train import claim

VERSION = 2  # distances made with different versions do not compare
SIDE = EncoderRecipe.size  # of the pictures that it sees [px]
SHIPPED = WEIGHTS / f"scene-encoder-v{VERSION}.safetensors"


class SceneEncoder(nn.Module):
    """Picture to a feature vector from which the renderer's factors can be read linearly."""

    def __init__(self, factors: int, *, width: int = 32, features: int = 128) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        layers: list[nn.Module] = [nn.PixelUnshuffle(4)]  # [b, 48, h/4, w/4]
        before = 48
        for level, after in enumerate(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2 if level else 1, padding=1),
                nn.GroupNorm(8, after),
                nn.SiLU(),
            ]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            before = after
        self.body = nn.Sequential(*layers)
        self.neck = nn.Linear(2 * before, features)
        self.head = nn.Linear(features, factors)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features: mean and largest activation of each channel, projected."""
        maps = self.body(images)  # [b, c, h/32, w/32]
        return F.silu(self.neck(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)))

    def factors(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Standardised factors."""
        return self.head(self(images))


@functools.cache
def shipped() -> SceneEncoder:
    """The encoder that comes with the package, frozen."""
    weights, _ = tensors.read(SHIPPED)
    encoder = SceneEncoder(len(weights["head.bias"])).requires_grad_(False).eval()
    encoder.load_state_dict({name: value.float() for name, value in weights.items()})
    return encoder


@torch.no_grad()
def features(encoder: SceneEncoder, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    """Features of many pictures of any size, in batches."""
    return torch.cat([encoder(resample.resize(part, SIDE, SIDE)) for part in images.split(64)])


def train(name: str, pictures: Path | str, out: Path | str, *, device: str | None = None) -> Path:
    """Train an encoder on rendered pictures and their factors; arguments and errors as in ``ilora.zoo.train.train``.

    Returns:
        Its file: weights in half precision; the header's card has the version, the recipe, and the share of each
        factor's variance that is explained on held-out pictures.
    """
    chosen, out = recipe(name), Path(out)
    device = chosen_device(device)
    claim(chosen, out)
    shown, held = read_pictures(pictures, limit=chosen.pictures, size=chosen.size).split(chosen.held_out)
    names, table = factor_table(shown)
    encoder = fitted(chosen, shown, table, out / "encoder", device=device)
    explained = _explained(encoder, held, names, shown)
    halves = {key: value.half().cpu() for key, value in encoder.state_dict().items()}
    path = out / SHIPPED.name
    card = {"version": VERSION, "recipe": chosen.write(), "explained": explained}
    tensors.write(path, halves, {"card": json.dumps(card)})
    return path


def report(_name: str, _pictures: Path | str, out: Path | str) -> Path:
    """Say what ``train`` left in ``out``; its file."""
    path = Path(out) / SHIPPED.name
    explained = json.loads(tensors.read(path)[1]["card"])["explained"]
    mean = sum(explained.values()) / len(explained)
    best = ", ".join(f"{name} {explained[name]:.2f}" for name in sorted(explained, key=explained.get)[::-1][:8])
    say(f"explains {mean:.2f} of the variance of {len(explained)} factors on held-out pictures; best: {best}")
    return path


def fitted(
    chosen: EncoderRecipe, pictures: Pictures, table: Float[Tensor, "n f"], folder: Path, *, device: str
) -> SceneEncoder:
    """An encoder that regresses the standardised factors of pictures, which come with noise and a little moved."""
    with torch.random.fork_rng():
        torch.manual_seed(chosen.encoder.seed)
        encoder = SceneEncoder(table.shape[1]).to(device, memory_format=torch.channels_last)

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        index = torch.randint(len(pictures), (chosen.encoder.batch,), generator=numbers)
        images = moved(pictures.images(index), chosen.shift, numbers)
        images = images + chosen.noise * torch.randn(images.shape, generator=numbers)
        with mixed(device):
            guess = encoder.factors(images.to(device).contiguous(memory_format=torch.channels_last))
        return F.smooth_l1_loss(guess.float(), table[index].to(device))

    return minimise(encoder, loss, chosen.encoder, folder)


def factor_table(pictures: Pictures) -> tuple[list[str], Float[Tensor, "n f"]]:
    """Names and standardised values of the factors that vary."""
    names = sorted({name for row in pictures.factors for name in row})
    table = _values(pictures, names)
    varying = table.std(0) > 1e-6
    table = table[:, varying]
    return [n for n, v in zip(names, varying.tolist(), strict=True) if v], (table - table.mean(0)) / table.std(0)


def _values(pictures: Pictures, names: list[str]) -> Float[Tensor, "n f"]:
    """Factors as they are; one that a picture does not have is 0."""
    return torch.tensor([[float(row.get(name, 0.0)) for name in names] for row in pictures.factors])


@torch.no_grad()
def _explained(encoder: SceneEncoder, held: Pictures, names: list[str], shown: Pictures) -> dict[str, float]:
    """Of each factor, 1 - error's variance / variance, on pictures that were held out."""
    images = held.images(slice(None)).to(next(encoder.parameters()).device)
    guess = torch.cat([encoder.factors(part).cpu() for part in images.split(64)])  # [m, f]
    known = _values(shown, names)
    true = (_values(held, names) - known.mean(0)) / known.std(0)
    residual = (guess - true).square().mean(0) / true.var(0).clamp(min=1e-6)
    return {name: round(1 - value, 3) for name, value in zip(names, residual.tolist(), strict=True)}

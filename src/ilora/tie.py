"""The tie that physics puts between two intrinsics: diffuse light is albedo times shading. It needs no labels.

A picture is I = A S + R in linear RGB, R being what is not diffuse. An adapter that paints both A and S can be held to
that on any picture, with a map or without.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.codes import batch, encode_pictures
from ilora.config import FitConfig
from ilora.generators.base import Generator
from ilora.intrinsics import chosen, intrinsic
from ilora.lessons import order, pictures
from ilora.ops import color, losses
from ilora.records import Code, Image, Loss
from ilora.team import Team

FACTORS = ("albedo", "shading")  # whose product is the picture's diffuse light
BURNT = 0.98  # sRGB code, or exposed light, from which a value may stand for more than it says


@dataclass(frozen=True)
class Tie:
    """What a fit is held to besides its labels.

    Attributes:
        codes, pictures: as ``ilora.codes.encode_pictures`` gives them.
        count: pictures an update, as many as an intrinsic has rows in a batch.
    """

    codes: Code
    pictures: Image
    count: int


def check(config: FitConfig) -> None:
    """Refuse a tie between what is not painted, or not in one pass.

    Raises:
        ValueError: albedo or shading is not among the intrinsics, or painting takes several passes.
    """
    names = chosen(config.intrinsic)
    if not set(FACTORS) <= set(names):
        raise ValueError(f"tie holds {' times '.join(FACTORS)} to the picture, got {config.intrinsic}; "
                         f"fit both (--intrinsic {','.join(FACTORS)}) or set tie=0")  # fmt: skip
    if config.readout.draws:
        raise ValueError(f"tie needs paint = single, got {config.paint}, {config.passes} passes a picture; set tie=0")


def prepared(generator: Generator, config: FitConfig) -> Tie:
    """All pictures of the training split, on the CPU; their codes are cached."""
    return Tie(
        *encode_pictures(generator, pictures(config), mirrored=config.mirror),
        max(1, config.batch // len(chosen(config.intrinsic))),
    )


def gradient(generator: Generator, tie: Tie, step: int, *, config: FitConfig, team: Team) -> Float[Tensor, ""]:
    """Add the gradient of the tie's part of the loss of update ``step``, and return that part.

    Args:
        team: whose processes take some of the pictures each.
    """
    device = next(generator.network.parameters()).device
    rows = batch(step, size=tie.count, count=len(tie.codes), seed=order(config.seed, "tie"))
    total = torch.zeros((), device=device)
    for part in rows[team.rank :: team.size].split(max(1, config.batch // config.accumulate)):
        if not len(part):  # more processes than pictures
            continue
        code, image = (x[part.to(x.device)].to(device) for x in (tie.codes, tie.pictures))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = config.tie * apart(generator, code, image.float()).sum() / tie.count
        loss.backward()
        total += loss.detach()
    return total


def apart(generator: Generator, code: Code, image: Image) -> Loss:
    """How far the painted albedo times the painted shading is from the picture; see ``ilora.ops.losses.composed``."""
    painted = {}
    for kind in map(intrinsic, FACTORS):
        generator.ask(kind.prompt)
        painted[kind.name] = kind.from_image(generator.forward(code))
    albedo, shading = (painted[name] for name in FACTORS)
    return losses.composed(albedo, shading, color.to_linear((image + 1) / 2), known(image, shading))


def known(image: Image, shading: Float[Tensor, "b 3 h w"]) -> Bool[Tensor, "b 1 h w"]:
    """Pixels whose light is known: neither burnt out in the picture nor where the painted shading is clipped.

    Exposed shading stands for light up to a factor of each image, and is clipped at 1 (``ilora.intrinsics.shading``);
    albedo is absolute. So one factor an image is open, and a clipped pixel says no more than "at least".
    """
    bright = torch.maximum((image + 1) / 2, shading.detach())
    return (bright < BURNT).all(1, keepdim=True)

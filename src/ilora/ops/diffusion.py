"""Diffusion that keeps variance: z = alpha x + sigma e with alpha^2 + sigma^2 = 1 and alpha^2 called abar.

x is the clean latent, e noise of unit variance, v = alpha e - sigma x the velocity (Salimans & Ho 2022, section 4).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Latent = Float[Tensor, "b c h w"]
Level = Float[Tensor, "b 1 1 1"] | float  # abar, 0 for noise alone, 1 for none


def zero_terminal_snr(abar: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """The schedule shifted and scaled so that its last step is noise alone and its first one stays; float64.

    Lin et al. 2024, *Common diffusion noise schedules and sample steps are flawed*, algorithm 1, on alpha. A schedule
    that ends in noise alone is left as it is.
    """
    alpha = abar.double().sqrt()
    first, last = alpha[0], alpha[-1]
    return ((alpha - last) * first / (first - last)).square()


def trailing(passes: int, steps: int) -> list[int]:
    """Time steps of so many passes, evenly spaced from the noisiest one down (Lin et al. 2024, table 2)."""
    return [round(steps - place * steps / passes) - 1 for place in range(passes)]


def mix(clean: Latent, noise: Latent, abar: Level) -> Latent:
    """The noisy latent z."""
    alpha, sigma = _weights(abar)
    return alpha * clean + sigma * noise


def velocity(clean: Latent, noise: Latent, abar: Level) -> Latent:
    """v of a clean latent and the noise that it is mixed with."""
    alpha, sigma = _weights(abar)
    return alpha * noise - sigma * clean


def clean(noisy: Latent, velocity: Latent, abar: Level) -> Latent:
    """The clean latent that a velocity stands for: alpha z - sigma v."""
    alpha, sigma = _weights(abar)
    return alpha * noisy - sigma * velocity


def advance(noisy: Latent, clean: Latent, before: Latent | None, levels: Sequence[float]) -> Latent:
    """The latent at the next, less noisy level.

    DPM-Solver++(2M), Lu et al. 2022, algorithm 2; with ``before`` = None its first order, which is DDIM (Song et al.
    2021, eq. 12, without noise). A step from noise alone, the one after it and one to no noise are of first order: the
    half logarithmic signal-to-noise ratio, in which the second order extrapolates, is infinite there.

    Args:
        clean: estimate of the clean latent at this level.
        before: that of the level before; None at the first one.
        levels: abar before, now and next; the first counts only beside ``before``.
    """
    earlier, now, later = levels
    step = _half_log_snr(later) - _half_log_snr(now)
    if before is not None and math.isfinite(step):
        clean = clean + (clean - before) * (0.5 * step / (_half_log_snr(now) - _half_log_snr(earlier)))
    (_, sigma), (alpha, sigma_later) = _weights(now), _weights(later)
    return (sigma_later / sigma) * noisy - (alpha * math.expm1(-step)) * clean


def guided(full: Latent, picture: Latent, nothing: Latent, *, text: float, image: float, rescale: float) -> Latent:
    """Classifier-free guidance by two conditions, brought back to the spread of the output that it began from.

    Brooks et al. 2023 (InstructPix2Pix), eq. 3, then Lin et al. 2024, eq. 15 and 16; a spread is over all of an image.

    Args:
        full: output given text and picture.
        picture: given the picture alone.
        nothing: given neither.
        text, image: weights; 1 and 1 give ``full`` back.
        rescale: share of the result that is brought back.
    """
    mixed = nothing + text * (full - picture) + image * (picture - nothing)
    spread, own = (output.flatten(1).std(1)[:, None, None, None] for output in (full, mixed))
    return mixed * (rescale * spread / own.clamp(min=torch.finfo(own.dtype).tiny) + (1 - rescale))


def _weights(abar: Level) -> tuple[Level, Level]:
    """alpha and sigma."""
    if isinstance(abar, Tensor):
        return abar.sqrt(), (1 - abar).sqrt()
    return math.sqrt(abar), math.sqrt(1 - abar)


def _half_log_snr(abar: float) -> float:
    """log(alpha / sigma)."""
    if 0 < abar < 1:
        return 0.5 * math.log(abar / (1 - abar))
    return math.inf if abar >= 1 else -math.inf

"""What a denoiser's output says about the clean latent, x = image * z + output * o: by its process, or by labels."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.config import Readout
from ilora.generators.base import Denoiser
from ilora.generators.objective import cells
from ilora.records import Record

STEPS = 1000  # of a flow's time: its noise level is timestep / STEPS
TRIED = (1, 250, 500, 750, 999)  # time steps that ``fitted`` chooses from
LEAST = 0.1  # of the target's size that the output contributes at least in ``fitted``: the adapter acts through it


def coefficients(readout: Readout, scheduler: Any) -> tuple[float, float]:
    """Weights of the latent z and of the network's output o in the clean latent, for a diffusion of diffusers.

    Where the readout leaves both open: with z = alpha x + sigma e, a network that predicts e gives
    (z - sigma o) / alpha, one that predicts v = alpha e - sigma x gives alpha z - sigma o (Salimans & Ho 2022,
    section 4), one that predicts x gives o. Where it gives only the first, o has the sign with which x is in it at the
    noisiest step: -1 for v, 1 otherwise (for e the published readout).

    Raises:
        ValueError: the time step is not one of the schedule's, or e is predicted where the signal is gone.
    """
    steps = len(scheduler.alphas_cumprod)
    if not 0 <= readout.timestep < steps:
        raise ValueError(f"timestep must be in 0..{steps - 1} of {type(scheduler).__name__}, got {readout.timestep}")
    kind = scheduler.config.prediction_type
    if readout.image is not None:
        sign = -1.0 if kind == "v_prediction" else 1.0
        return readout.image, sign if readout.output is None else readout.output
    abar = float(scheduler.alphas_cumprod[readout.timestep])
    alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    if kind == "epsilon" and alpha < 1e-3:  # Stable Diffusion ends at 0.068, zero-signal schedules at 2e-4 or 0
        raise ValueError(
            f"predicted noise says nothing of the image at timestep {readout.timestep}, where alpha is {alpha:.1g}; "
            "give the readout's image and output, or an earlier timestep"
        )
    noise = (1 / alpha, -sigma / alpha) if kind == "epsilon" else (0.0, 0.0)
    image, output = {"epsilon": noise, "v_prediction": (alpha, -sigma), "sample": (0.0, 1.0)}[kind]
    return image, output if readout.output is None else readout.output


def flow_coefficients(readout: Readout, *, sign: int) -> tuple[float, float]:
    """The same for a rectified flow, z = (1 - s) x + s e with s = timestep / 1000 (Liu et al. 2022, eq. 1).

    Its velocity is e - x, so that x = z - s o; a network that is trained on x - e gives x = z + s o.

    Args:
        sign: with which x is in the output: -1 for e - x, 1 for x - e. That of o where only ``image`` is given.

    Raises:
        ValueError: the time step is not one of the thousand, or so early that the output hardly counts.
    """
    if not 0 <= readout.timestep < STEPS:
        raise ValueError(f"timestep must be in 0..{STEPS - 1} of a flow, got {readout.timestep}")
    if readout.image is not None:
        return readout.image, float(sign) if readout.output is None else readout.output
    output = sign * readout.timestep / STEPS if readout.output is None else readout.output
    if abs(output) < 0.01:
        raise ValueError(
            f"at timestep {readout.timestep} the clean latent is {output:g} of a flow's output and an adapter could "
            "not change it; take the readout flow_clean there, or a later timestep"
        )
    return 1.0, output


@torch.no_grad()
def fitted(generator: Denoiser, records: Record, *, masked: bool) -> tuple[Readout, dict[int, float]]:
    """The readout under which the untouched network comes closest to the labels: two weights and a time step.

    For each of ``TRIED``, the least squares of |image * z + output * o - target|^2 over all channels and cells of all
    images; the time step with the smallest rest wins. Nothing is trained. A network whose output says nothing beyond
    its input would get an output weight of 0, and no adapter could change anything through that; so its part is at
    least ``LEAST`` of the target's root mean square.

    Args:
        generator: asked in the intrinsic's words; its own readout is back afterwards.
        records: labelled images, at most some tens.
        masked: only cells all of whose pixels are valid count.

    Returns:
        The readout, its weights in four digits, and for each time step the rest's share of the target's power.

    Raises:
        ValueError: no cell counts.
    """
    kept, sums = generator.readout, {}
    try:
        for timestep in TRIED:
            generator.readout = Readout(timestep=timestep, image=0.0, output=1.0)
            sums[timestep] = sum(_products(generator, records, row, masked=masked) for row in range(len(records.code)))
    finally:
        generator.readout = kept
    if not sums[TRIED[0]][2, 2] > 0:
        raise ValueError("a readout is fitted to labels with valid cells, got none; give one by name instead")
    found = {timestep: least_squares(moments) for timestep, moments in sums.items()}
    best = min(TRIED, key=lambda timestep: found[timestep][2])
    image, output, _ = found[best]
    rest = {timestep: share for timestep, (_, _, share) in found.items()}
    return Readout(timestep=best, image=float(f"{image:.4g}"), output=float(f"{output:.4g}")), rest


def least_squares(moments: Float[Tensor, "3 3"]) -> tuple[float, float, float]:
    """Weights of z and o that come closest to x, and the rest's share of x's power, from sums of products.

    Args:
        moments: sums of products of (z, o, x) with each other.
    """
    power = moments[2, 2].item()
    image, output = (torch.linalg.pinv(moments[:2, :2], hermitian=True) @ moments[:2, 2]).tolist()
    least = LEAST * math.sqrt(power / max(moments[1, 1].item(), 1e-30))
    if abs(output) < least:
        output = math.copysign(least, output)
        image = (moments[0, 2] - output * moments[0, 1]).item() / max(moments[0, 0].item(), 1e-30)
    combined = torch.tensor([image, output, -1.0], dtype=moments.dtype)
    return image, output, (combined @ moments @ combined).item() / power


def _products(generator: Denoiser, records: Record, row: int, *, masked: bool) -> Float[Tensor, "3 3"]:
    """Sums of products of latent, output and target of one image, in float64."""
    code, target, valid = (
        getattr(records, name)[row : row + 1].cpu() for name in ("code", "target", "valid")
    )  # [1, c, rows, columns] twice, [1, 1, h, w]
    output = generator.paint(code).cpu()
    inside = cells(valid, valid.shape[-1] // code.shape[-1]) | (not masked)  # [1, 1, rows, columns]
    columns = torch.stack([code, output, target]).double() * inside  # [3, 1, c, rows, columns]
    flat: Float[Tensor, "3 n"] = columns.flatten(1)
    return flat @ flat.T

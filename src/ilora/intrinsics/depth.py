"""Planar depth, painted as grey: near is white, far is black."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.ops import alignment, color, ensembles, losses, masked, metrics, resample
from ilora.records import Image, Loss, Valid

Depths = Float[Tensor, "b 1 h w"]  # along the optical axis; labels in metres, predictions affine-invariant

NEAR, FAR = 0.01, 0.99  # quantiles of an image's depths that become white and black
FLOOR = 1e-3  # [m] least depth after alignment, as Marigold's NYUv2 protocol has it
EDGE_WEIGHT = 0.5  # of the multi-scale gradient term
ANCHOR_WEIGHT = 0.1  # of the painted grey itself, which keeps near white and far black


class Depth:
    """Distance along the optical axis. The image is affine in it, so it tells depth up to a scale and a shift."""

    name = "depth"
    channels = 1
    prompt = "depth map"
    units = ("planar depth, larger is farther; labels in metres, predictions relative (0 near, 1 far): "
             "metres up to an unknown scale and shift of each image")  # fmt: skip
    uncertainty = "standard deviation of the samples, each scaled and shifted to their mean, relative depth"
    primary = "abs_rel"
    range = (0.0, 1.0)

    def to_image(self, map: Depths, valid: Valid) -> Image:
        """Grey, affine in depth: each image's 1st percentile is white (1), its 99th black (-1), clipped beyond.

        Unlike the published target (from the nearest pixel to the 99th percentile, at most 300 m) neither end hangs on
        a single pixel. Invalid pixels are 0, as is an image of constant depth.
        """
        depth = torch.where(valid, masked.precise(map), 0)
        near, far = (masked.quantile(depth, valid, q=q)[:, None, None, None] for q in (NEAR, FAR))
        grey = (near + far - 2 * depth) / (far - near).clamp(min=torch.finfo(depth.dtype).tiny)
        return torch.where(valid, grey.clamp(-1, 1), 0).repeat(1, 3, 1, 1)

    def from_image(self, image: Image) -> Depths:
        """Relative depth from the channels' mean: 0 where white (near), 1 where black (far). Affine, not metres."""
        return (1 - masked.precise(image).mean(1, keepdim=True)) / 2

    def flip(self, map: Depths) -> Depths:
        """The scene in a mirror: columns reversed."""
        return map.flip(-1)

    def relight(self, map: Depths, gain: Float[Tensor, "3"]) -> Depths:
        """Geometry knows no light."""
        return map

    def resize(self, map: Depths, height: int, width: int) -> Float[Tensor, "b 1 height width"]:
        """Averaged in depth."""
        return resample.resize(map, height, width)

    def ensemble(self, samples: ensembles.Samples) -> tuple[Depths, Float[Tensor, "b 1 h w"]]:
        """Mean and standard deviation of the samples after each was brought to their mean by a scale and a shift.

        Depth is known up to these; Marigold (Ke et al. 2024, section 3.3) aligns the samples to each other likewise.
        """
        samples = ensembles.aligned(samples)
        return samples.mean(0), ensembles.deviation(samples)

    def loss(self, image: Image, map: Depths, valid: Valid) -> Loss:
        """Mean absolute error of the painted grey after the best scale and shift, plus its edges at four scales.

        Ranftl et al. 2022, section 5, aligned by least squares, on the grey of ``to_image``. That scale may be
        negative, so a small share of the error without alignment keeps near white.
        """
        grey = masked.precise(image).mean(1, keepdim=True)
        wanted = self.to_image(map, valid)[:, :1]
        aligned = losses.scaled_and_shifted(grey, wanted, valid)
        error = losses.absolute(aligned, wanted, valid) + EDGE_WEIGHT * losses.edges(aligned, wanted, valid)
        return error + ANCHOR_WEIGHT * losses.absolute(grey, wanted, valid)

    def metrics(self, map: Depths, target: Depths, valid: Valid) -> dict[str, Float[Tensor, " b"]]:
        """Errors after scale and shift by least squares in depth, clipped at 1 mm; metres, shares in %.

        An image with fewer than two valid pixels cannot be aligned and gives NaN.
        """
        metrics.require(map, target, valid)
        valid = valid & (valid.flatten(1).sum(1) >= 2)[:, None, None, None]
        map = torch.where(valid, alignment.by_scale_and_shift(map, target, valid).clamp(min=FLOOR), 0)
        errors = {
            "abs_rel": metrics.abs_rel(map, target, valid),
            "sq_rel": metrics.sq_rel(map, target, valid),
            "rmse": metrics.rmse(map, target, valid),
            "rmse_log": metrics.rmse_log(map, target, valid),
            "log10": metrics.log10(map, target, valid),
            "silog": metrics.silog(map, target, valid),
        }
        return errors | {f"delta{power}": metrics.delta(map, target, valid, power=power) for power in (1, 2, 3)}

    def show(self, map: Depths) -> UInt8[Tensor, "b 3 h w"]:
        """Near is pale yellow, far is violet, between each image's 1st and 99th percentiles. NaN is black."""
        grey = self.to_image(map, map.isfinite())[:, :1]
        return color.to_uint8(torch.where(map.isfinite(), color.heat((grey + 1) / 2), 0))

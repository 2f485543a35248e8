"""Albedo: the share of light that a surface sends back, painted as the colour it has under white light."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.ops import color, ensembles, losses, masked, metrics, resample
from ilora.records import Image, Loss, Valid

Albedos = Float[Tensor, "b 3 h w"]  # linear RGB, [0, 1]

EDGE_WEIGHT = 0.5  # of the multi-scale gradient term
LINEAR_WEIGHT = 1.0  # of the scale-invariant error in linear RGB


class Albedo:
    """Diffuse reflectance. The image is its sRGB code."""

    name = "albedo"
    channels = 3
    prompt = "albedo"
    units = "diffuse reflectance, linear RGB with sRGB's primaries, 0 to 1"
    uncertainty = "standard deviation of the samples, root mean square of the channels, linear RGB"
    primary = "si_rmse"
    range = (0.0, 1.0)

    def to_image(self, map: Albedos, valid: Valid) -> Image:
        """sRGB code, -1 for black and 1 for white; invalid pixels are 0, middle grey."""
        code = 2 * color.to_srgb(torch.where(valid, masked.precise(map), 0).clamp(0, 1)) - 1
        return torch.where(valid, code, 0)

    def from_image(self, image: Image) -> Albedos:
        """Linear RGB in [0, 1]; codes outside [-1, 1] are clipped."""
        return color.to_linear((masked.precise(image).clamp(-1, 1) + 1) / 2)

    def flip(self, map: Albedos) -> Albedos:
        """The scene in a mirror: columns reversed."""
        return map.flip(-1)

    def relight(self, map: Albedos, gain: Float[Tensor, "3"]) -> Albedos:
        """What a surface sends back of the light does not depend on it."""
        return map

    def resize(self, map: Albedos, height: int, width: int) -> Float[Tensor, "b 3 height width"]:
        """Averaged as light."""
        return resample.resize(map, height, width)

    def ensemble(self, samples: ensembles.Samples) -> tuple[Albedos, Float[Tensor, "b 1 h w"]]:
        """Mean, and standard deviation in linear RGB."""
        return samples.mean(0), ensembles.deviation(samples)

    def loss(self, image: Image, map: Albedos, valid: Valid) -> Loss:
        """Mean absolute error of the sRGB code and its edges, plus the scale-invariant RMSE in linear RGB.

        The last term is the primary metric, rounded off at 0; the first ones keep the absolute brightness.
        """
        wanted = self.to_image(map, valid)
        coded = losses.absolute(image, wanted, valid) + EDGE_WEIGHT * losses.edges(image, wanted, valid)
        scaled = losses.scaled(self.from_image(image), map, valid)
        return coded + LINEAR_WEIGHT * losses.root_mean_square(scaled, map, valid)

    def metrics(self, map: Albedos, target: Albedos, valid: Valid) -> dict[str, Float[Tensor, " b"]]:
        """si_rmse, si_mse and lmse in linear RGB; psnr and ssim of the sRGB codes, 0 to 1, without alignment."""
        shown, wanted = (color.to_srgb(values.clamp(0, 1)) for values in (map, target))
        return {
            "si_rmse": metrics.si_rmse(map, target, valid),
            "si_mse": metrics.si_mse(map, target, valid),
            "lmse": metrics.lmse(map, target, valid),
            "psnr": metrics.psnr(shown, wanted, valid),
            "ssim": metrics.ssim(shown, wanted, valid),
        }

    def show(self, map: Albedos) -> UInt8[Tensor, "b 3 h w"]:
        """sRGB bytes. NaN is black."""
        return color.to_uint8(color.to_srgb(map.nan_to_num(0)))

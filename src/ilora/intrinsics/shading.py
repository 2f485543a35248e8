"""Shading: the light that arrives at a surface, painted with the exposure that a photographer would give it."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.ops import alignment, color, ensembles, losses, masked, metrics, resample
from ilora.records import Image, Loss, Valid

Shadings = Float[Tensor, "b 3 h w"]  # linear RGB, >= 0, unbounded

BRIGHT, LEVEL = 0.9, 0.8  # exposure: this quantile of the largest channel gets this value, and 1 is the brightest
EDGE_WEIGHT = 0.5  # of the multi-scale gradient term
LINEAR_WEIGHT = 1.0  # of the scale-invariant error in linear RGB


class Shading:
    """Coloured diffuse irradiance over pi, known up to a scale. The image is its exposed sRGB code.

    Exposed means: divided so that the 90th percentile of each image's largest channel is 0.8, and clipped at 1. That is
    Marigold's lighting protocol, with the largest channel for the brightness so that coloured light keeps its colour.
    In rendered rooms a few pixels beside a lamp are a hundred times brighter than the mean, and the picture has burnt
    out there. Unclipped they would be most of the error of every map; a code that keeps them, such as hybrid log-gamma,
    pays with contrast everywhere else.
    """

    name = "shading"
    channels = 3
    prompt = "shading"
    units = ("diffuse irradiance over pi, linear RGB with sRGB's primaries, 0 and up; labels on the scale of the "
             "picture's light; predictions up to a scale of each image, the 90th percentile of their largest channel "
             "near 0.8, clipped at 1")  # fmt: skip
    uncertainty = "standard deviation of the samples, root mean square of the channels, exposed linear RGB"
    primary = "si_rmse"
    range = (0.0, 1.0)

    def to_image(self, map: Shadings, valid: Valid) -> Image:
        """sRGB code of the exposed map, -1 for no light; the scale is lost. Invalid pixels are 0, middle grey."""
        return torch.where(valid, 2 * color.to_srgb(_exposed(map, valid)) - 1, 0)

    def from_image(self, image: Image) -> Shadings:
        """Exposed linear RGB in [0, 1]; codes outside [-1, 1] are clipped."""
        return color.to_linear((masked.precise(image).clamp(-1, 1) + 1) / 2)

    def flip(self, map: Shadings) -> Shadings:
        """The scene in a mirror: columns reversed."""
        return map.flip(-1)

    def relight(self, map: Shadings, gain: Float[Tensor, "3"]) -> Shadings:
        """It is the light; the image loses the strength again and keeps the colour."""
        return map * gain[:, None, None]

    def resize(self, map: Shadings, height: int, width: int) -> Float[Tensor, "b 3 height width"]:
        """Averaged as light."""
        return resample.resize(map, height, width)

    def ensemble(self, samples: ensembles.Samples) -> tuple[Shadings, Float[Tensor, "b 1 h w"]]:
        """Mean, and standard deviation in linear RGB."""
        return samples.mean(0), ensembles.deviation(samples)

    def loss(self, image: Image, map: Shadings, valid: Valid) -> Loss:
        """Mean absolute error of the code and of its edges, plus the scale-invariant RMSE of the exposed light."""
        wanted, light = self.to_image(map, valid), _exposed(map, valid)
        coded = losses.absolute(image, wanted, valid) + EDGE_WEIGHT * losses.edges(image, wanted, valid)
        scaled = losses.scaled(self.from_image(image), light, valid)
        return coded + LINEAR_WEIGHT * losses.root_mean_square(scaled, light, valid)

    def metrics(self, map: Shadings, target: Shadings, valid: Valid) -> dict[str, Float[Tensor, " b"]]:
        """All in linear RGB, each map exposed by itself; psnr and ssim after the best scale of the prediction."""
        metrics.require(map, target, valid)
        map, target = _exposed(map, valid), _exposed(target, valid)
        fitted = torch.where(valid, alignment.by_scale(map, target, valid).clamp(max=1), 0)
        return {
            "si_rmse": metrics.si_rmse(map, target, valid),
            "si_mse": metrics.si_mse(map, target, valid),
            "lmse": metrics.lmse(map, target, valid),
            "psnr": metrics.psnr(fitted, target, valid),
            "ssim": metrics.ssim(fitted, target, valid),
        }

    def show(self, map: Shadings) -> UInt8[Tensor, "b 3 h w"]:
        """The sRGB code of the exposed map as bytes. NaN is black."""
        return color.to_uint8(color.to_srgb(_exposed(map, map.isfinite().all(1, keepdim=True))))


def _exposed(map: Shadings, valid: Valid) -> Shadings:
    """Linear RGB in [0, 1], each image divided by its bright quantile; 0 outside the mask and where that is 0."""
    light = torch.where(valid, masked.precise(map), 0)
    bright = masked.quantile(light.amax(1, keepdim=True), valid, q=BRIGHT)[:, None, None, None]
    return (light * (LEVEL / torch.where(bright > 0, bright, LEVEL))).clamp(0, 1)

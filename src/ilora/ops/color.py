"""Colour spaces, transfer functions and the colours of pictures for people."""

import math

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ilora.ops import masked

# IEC 61966-2-1:1999, sRGB: a line below the knee, a power above it.
_SLOPE, _OFFSET, _GAMMA = 12.92, 0.055, 2.4
_KNEE_LINEAR, _KNEE_CODED = 0.0031308, 0.04045
_BRIGHT, _LEVEL, _DISPLAY, _DARK = 0.9, 0.8, 2.2, 1e-4  # of tonemapping: quantile, its code, gamma, least brightness


def to_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Linear light to sRGB code, both 0 to 1; the curve goes on outside, so that nothing is clipped here."""
    power = linear.clamp(min=_KNEE_LINEAR) ** (1 / _GAMMA)  # clamped first: the power's slope at 0 is infinite
    return torch.where(linear <= _KNEE_LINEAR, linear * _SLOPE, (1 + _OFFSET) * power - _OFFSET)


def to_linear(srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sRGB code to linear light, both 0 to 1; the inverse of ``to_srgb`` everywhere."""
    power = ((srgb.clamp(min=_KNEE_CODED) + _OFFSET) / (1 + _OFFSET)) ** _GAMMA
    return torch.where(srgb <= _KNEE_CODED, srgb / _SLOPE, power)


def luminance(linear: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Relative luminance of linear RGB with sRGB's primaries (ITU-R BT.709)."""
    weights = linear.new_tensor([0.2126, 0.7152, 0.0722])
    return (linear * weights[:, None, None]).sum(1, keepdim=True)


def exposure(linear: Float[Tensor, "b 3 h w"], valid: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Factor of each image by which ``tonemapped`` shows the 90th percentile of its brightness as 0.8.

    Li and Snavely 2018, *CGIntrinsics*, as in Hypersim's toolkit: brightness by CCIR 601; 1 without a valid pixel, 0
    for an image in the dark.
    """
    weights = linear.new_tensor([0.3, 0.59, 0.11])
    brightness = torch.where(valid, (linear * weights[:, None, None]).sum(1, keepdim=True), 0)
    bright = masked.quantile(brightness, valid, q=_BRIGHT)
    factor = _LEVEL**_DISPLAY / torch.where(bright < _DARK, torch.inf, bright)
    return torch.where(valid.flatten(1).any(1), factor, 1)


def tonemapped(exposed: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Code of light times its ``exposure``, 0 to 1, under a gamma of 2.2; NaN is black."""
    return exposed.nan_to_num(0).clamp(0, 1) ** (1 / _DISPLAY)


def from_oklab(lab: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """OKLab (lightness 0 to 1, green-red, blue-yellow) to linear sRGB; colours outside its gamut leave [0, 1].

    Ottosson 2020, *A perceptual color space for image processing*.
    """
    cones = lab.new_tensor([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                            [1, -0.0894841775, -1.2914855480]])  # fmt: skip
    primaries = lab.new_tensor([[4.0767416621, -3.3077115913, 0.2309699292],
                                [-1.2684380046, 2.6097574011, -0.3413193965],
                                [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip
    root = torch.einsum("ij,bjhw->bihw", cones, lab)
    return torch.einsum("ij,bjhw->bihw", primaries, root**3)


def heat(value: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Colours for a scalar, sRGB 0 to 1: dark violet at 0, through red and orange, to pale yellow at 1.

    A path in OKLab on which lightness grows evenly, so that equal steps look equal, also in grey.

    Args:
        value: 0 to 1; the ends stand for what lies beyond.
    """
    t = value.clamp(0, 1)
    hue = math.radians(-70) + math.radians(175) * t  # violet, red, orange, yellow
    chroma = 0.05 + 0.44 * t * (1 - t) + 0.04 * t  # the widest that stays inside sRGB
    lab = torch.cat([0.18 + 0.78 * t, chroma * hue.cos(), chroma * hue.sin()], dim=1)
    return to_srgb(from_oklab(lab)).clamp(0, 1)


def to_uint8(color: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Codes 0 to 1 as bytes, rounded and clipped; NaN becomes black."""
    return (color.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)

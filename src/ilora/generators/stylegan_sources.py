"""Other programs' StyleGAN checkpoints: which network they hold, and its weights as our modules name and scale them.

Read as data: NVIDIA's pickles of PyTorch modules (2-ADA, 3, XL), their older pickles of TensorFlow networks, and
rosinality's ``.pt``. All weights there are raw: what the equalised learning rate multiplies them with at each call is
folded in here (Karras et al. 2018, sec. 4.1).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ilora import tensors
from ilora.generators.pickled import MODULES, TOTAL, attributes, child, entries, state_dict, value
from ilora.generators.pickles import Note, read
from ilora.generators.stylegan2 import TAPS, Shape2
from ilora.generators.stylegan3 import LayerShape, Shape3
from ilora.generators.stylegan_layers import Mapping, MappingShape

Weights = dict[str, Tensor]
RATE = 0.01  # learning rate multiplier of the mapping's layers, as published
_BROKEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)  # what odd contents end in
NETWORK = "dnnlib.tflib.network.Network"  # what TensorFlow pickles hold three of


@dataclass(frozen=True)
class Checkpoint:
    """A network without its code.

    Attributes:
        shape: of the network; its class says which architecture.
        weights: of our module of this shape.
        origin: layout of the file that it came from, in words.
    """

    shape: Shape2 | Shape3
    weights: Weights
    origin: str


def open_file(path: Path) -> Checkpoint:
    """Read a checkpoint of another program; nothing in it is run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, hostile, or not a StyleGAN of a known layout.
    """
    if path.suffix != ".pkl":
        return rosinality(path)
    content = read(path)
    try:
        if isinstance(content, tuple) and len(content) == 3:
            return tensorflow(content[2])
        return nvidia(entries(content).get("G_ema"))
    except ValueError as error:
        raise ValueError(
            f"{path} holds no StyleGAN generator that can be read, and nothing in it was run ({error})"
        ) from error
    except _BROKEN as error:
        raise ValueError(f"{path} holds a StyleGAN with parts missing or of another shape ({error})") from error


def nvidia(network: Any) -> Checkpoint:
    """The generator ``G_ema`` of a PyTorch pickle."""
    raw, mapping, synthesis = state_dict(network), child(network, "mapping"), child(network, "synthesis")
    layers = {name: attributes(layer) for name, layer in entries(attributes(mapping)["_modules"]).items()}
    rates = {name: float(value(own["bias_gain"])) for name, own in layers.items() if "bias_gain" in own}
    activation = str(layers.get("embed_proj", {}).get("activation", "linear"))
    if "layer_names" in attributes(synthesis):
        shape, weights = _third(raw, synthesis)
        origin = "NVIDIA's pickle of StyleGAN 3 or XL"
    else:
        shape, weights = _second(raw, clamp=_clamp(synthesis))
        origin = "NVIDIA's pickle of StyleGAN 2 with ADA"
    own, mapped = _mapping(raw, rates=rates, activation=activation != "linear")
    return Checkpoint(shape.replace(mapping=own), weights | mapped, origin)


def tensorflow(network: Any) -> Checkpoint:
    """The averaged generator ``Gs`` of a TensorFlow pickle, brought to the names of the PyTorch one."""
    found = _variables(network)
    if any("LabelConcat" in name for name in found):
        raise ValueError("expected an unconditional generator, got one with classes; NVIDIA's converter makes a .pkl")
    raw: Weights = {"mapping.w_avg": found["dlatent_avg"]}
    for name, array in found.items():
        for pattern, renamed, change in _TENSORFLOW:
            if match := re.fullmatch(pattern, name):
                raw[renamed(match)] = change(array).contiguous()
    shape, weights = _second(raw, clamp=None)
    own, mapped = _mapping(raw)
    return Checkpoint(shape.replace(mapping=own), weights | mapped, "NVIDIA's pickle of a TensorFlow StyleGAN 2")


def rosinality(path: Path) -> Checkpoint:
    """The averaged generator of a file that rosinality's PyTorch training or converter wrote."""
    stored, mean = tensors.read(path, inside="g_ema")[0], tensors.read(path, inside="")[0].get("latent_avg")
    if "input.input" not in stored or "style.1.weight" not in stored:
        raise ValueError(f"{path} must hold rosinality's 'g_ema' (input.input, style.1.weight, convs.0...), got others")
    try:
        raw: Weights = {"mapping.w_avg": torch.zeros(len(stored["style.1.weight"])) if mean is None else mean.flatten()}
        for name, tensor in stored.items():
            for pattern, renamed, change in _ROSINALITY:
                if match := re.fullmatch(pattern, name):
                    raw[renamed(match)] = change(tensor).contiguous()
        shape, weights = _second(raw, clamp=None)
        own, mapped = _mapping(raw)
        if mean is None:  # files of a training leave it out
            mapped["mapping.w_avg"] = _mean_style(own, mapped)
    except _BROKEN as error:
        raise ValueError(f"{path} holds a StyleGAN 2 with parts missing or of another shape ({error})") from error
    return Checkpoint(shape.replace(mapping=own), weights | mapped, "rosinality's PyTorch file of StyleGAN 2")


def _mapping(
    raw: Weights, *, rates: dict[str, float] | None = None, activation: bool = False
) -> tuple[MappingShape, Weights]:
    """Shape and effective weights of the mapping."""
    rates, weights = rates or {}, {"mapping.w_avg": raw["mapping.w_avg"].float()}
    layers = sum(re.fullmatch(r"mapping\.fc\d+\.weight", name) is not None for name in raw)
    for name in ("embed", "embed_proj", *(f"fc{index}" for index in range(layers))):
        if f"mapping.{name}.bias" in raw:
            rate = rates.get(name, RATE if name.startswith("fc") else 1.0)
            weights |= _dense(raw, f"mapping.{name}", rate=rate)
    first: Float[Tensor, "o i"] = raw["mapping.fc0.weight"]
    classes: Float[Tensor, "_ _"] | None = raw.get(
        "mapping.embed.weight"
    )  # a table [classes, e], or a projection [d, classes]
    table = classes is not None and "mapping.embed.bias" not in raw
    if table:
        weights["mapping.embed.weight"] = classes.float()
    projection = None if classes is None else raw["mapping.embed_proj.weight"] if table else classes
    width = 0 if projection is None else len(projection)
    shape = MappingShape(
        z=first.shape[1] - width,
        w=len(first),
        layers=layers,
        classes=0 if classes is None else classes.shape[0 if table else 1],
        embedding=classes.shape[1] if table else 0,
        class_width=width,
        class_activation=activation,
        centres=1 if raw["mapping.w_avg"].ndim == 1 else len(raw["mapping.w_avg"]),
    )
    return shape, weights


@torch.no_grad()
def _mean_style(shape: MappingShape, weights: Weights) -> Float[Tensor, " w"]:
    """Mean over 4096 draws, as rosinality's own programs take it."""
    mapping = Mapping(shape)
    mapping.load_state_dict({name.removeprefix("mapping."): tensor for name, tensor in weights.items()})
    return mapping(torch.randn(4096, shape.z, generator=torch.Generator().manual_seed(0))).mean(0)


def _second(raw: Weights, *, clamp: float | None) -> tuple[Shape2, Weights]:
    """Shape and effective weights of a StyleGAN 2, from the names and raw values of the PyTorch pickles."""
    weights: Weights = {"synthesis.b4.const": raw["synthesis.b4.const"].float()}
    for name in _layers(raw) + [name for name in _affine(raw) if name.endswith(".torgb")]:
        weight: Float[Tensor, "o i k l"] = raw[f"{name}.weight"].float()
        weights |= _dense(raw, f"{name}.affine", rate=1.0) | {f"{name}.bias": raw[f"{name}.bias"].float()}
        if name.endswith(".torgb"):
            weight = weight / math.sqrt(weight[0].numel())
        else:
            side = int(re.search(r"\d+", name)[0])
            weights[f"{name}.noise_strength"] = raw.get(f"{name}.noise_strength", torch.zeros([])).float().reshape([])
            weights[f"{name}.noise_const"] = raw.get(f"{name}.noise_const", torch.zeros(side, side)).float()
        weights[f"{name}.conv.weight"] = weight
    taps: Float[Tensor, " n"] = torch.tensor(TAPS)
    for name in [name for name in raw if name.endswith("resample_filter")]:
        if raw[name].shape != (4, 4) or not torch.allclose(raw[name].float(), taps[:, None] * taps, atol=1e-6):
            raise ValueError(f"expected the published resampling filter [1, 3, 3, 1], got another in {name}")
    sides = sorted(
        int(re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", name)[1]) for name in raw if ".conv1.weight" in name
    )
    return Shape2(widths=tuple(len(raw[f"synthesis.b{side}.conv1.weight"]) for side in sides), clamp=clamp), weights


def _third(raw: Weights, synthesis: Any) -> tuple[Shape3, Weights]:
    """Shape and effective weights of a StyleGAN 3 or XL, from what its layers say of themselves."""
    own, source = attributes(synthesis), attributes(child(synthesis, "input"))
    weights = _dense(raw, "synthesis.input.affine", rate=1.0)
    weights |= {
        f"synthesis.input.{name}": raw[f"synthesis.input.{name}"].float() for name in ("transform", "freqs", "phases")
    }
    mixing: Float[Tensor, "c c"] = raw["synthesis.input.weight"].float()
    weights["synthesis.input.weight"] = mixing / math.sqrt(len(mixing))
    layers = []
    for name in own["layer_names"]:
        shape, made = _third_layer(raw, str(name), attributes(child(synthesis, str(name))))
        layers, weights = [*layers, shape], weights | made
    shape = Shape3(
        resolution=_numbers(own["img_resolution"])[0],
        layers=tuple(layers),
        channels=len(mixing),
        size=_numbers(source["size"]),
        sampling_rate=float(value(source["sampling_rate"])),
        bandwidth=float(value(source["bandwidth"])),
        scale=float(value(own.get("output_scale", 0.25))),
    )
    return shape, weights


def _third_layer(raw: Weights, name: str, own: dict[str, Any]) -> tuple[LayerShape, Weights]:
    place = f"synthesis.{name}"
    weight: Float[Tensor, "o i k l"] = raw[f"{place}.weight"].float()
    paints = bool(value(own["is_torgb"]))
    # Demodulation forgets the norm of each output's weights; the published code divides it away first.
    scale = math.sqrt(weight[0].numel()) if paints else weight.square().mean((1, 2, 3), keepdim=True).sqrt()
    weights = _dense(raw, f"{place}.affine", rate=1.0) | {
        f"{place}.conv.weight": weight / scale,
        f"{place}.bias": raw[f"{place}.bias"].float(),
        f"{place}.gain": raw[f"{place}.magnitude_ema"].float().rsqrt(),
        f"{place}.up_filter": raw.get(f"{place}.up_filter", torch.ones([])).float(),
        f"{place}.down_filter": raw.get(f"{place}.down_filter", torch.ones([])).float(),
    }
    limit = value(own.get("conv_clamp", 256))
    return LayerShape(
        name=name,
        inputs=weight.shape[1],
        outputs=weight.shape[0],
        kernel=weight.shape[2],
        up=_numbers(own["up_factor"])[0],
        down=_numbers(own["down_factor"])[0],
        padding=_numbers(own["padding"]),
        up_taps=tuple(weights[f"{place}.up_filter"].shape),
        down_taps=tuple(weights[f"{place}.down_filter"].shape),
        clamp=None if limit is None else float(limit),
        paints=paints,
    ), weights


def _dense(raw: Weights, name: str, *, rate: float) -> Weights:
    """Effective weight and bias of a linear layer: y = W x rate / sqrt(inputs) + b rate."""
    weight: Float[Tensor, "o i"] = raw[f"{name}.weight"].float()
    return {
        f"{name}.weight": weight * (rate / math.sqrt(weight.shape[1])),
        f"{name}.bias": raw[f"{name}.bias"].float() * rate,
    }


def _affine(raw: Weights) -> list[str]:
    """Layers of a synthesis network that take a style."""
    ending = ".affine.weight"
    return [name.removesuffix(ending) for name in raw if name.startswith("synthesis.") and name.endswith(ending)]


def _layers(raw: Weights) -> list[str]:
    """Those of them in a StyleGAN 2 that add noise."""
    return [name for name in _affine(raw) if re.search(r"\.conv[01]$", name)]


def _clamp(synthesis: Any) -> float | None:
    """Limit of the activations, the same in all blocks; refuses what is not the published 'skip' architecture."""
    limits = set()
    for name, block in entries(attributes(synthesis)["_modules"]).items():
        architecture = attributes(block).get("architecture", "skip")
        if architecture != "skip":
            raise ValueError(f"expected blocks of the architecture 'skip', got {str(architecture)[:20]!r} in {name}")
        limits.add(value(attributes(child(block, "conv1")).get("conv_clamp")))
    if len(limits) > 1:
        raise ValueError(f"expected one limit of activations, got {len(limits)}")
    limit = limits.pop()
    return None if limit is None else float(limit)


def _numbers(content: Any) -> tuple[int, ...]:
    """Whole numbers of a scalar, a list or an array."""
    found = value(content)
    return tuple(int(value(each)) for each in (found if isinstance(found, list | tuple) else np.ravel(found)))


def _variables(network: Any) -> dict[str, Tensor]:
    """Variables of a TensorFlow network and of the networks inside it, by their names without the outer ones."""
    found: dict[str, Tensor] = {}
    waiting, networks, total = [network], 0, 0
    while waiting:
        inner, networks = waiting.pop(), networks + 1
        if networks > MODULES:
            raise ValueError(f"expected at most {MODULES:,} networks, got more")
        if not (isinstance(inner, Note) and inner.asks_for(NETWORK) and isinstance(inner.state, dict)):
            raise ValueError("expected a network of NVIDIA's TensorFlow library, got something else")
        for name, array in inner.state["variables"]:
            found[name] = torch.as_tensor(value(array))
            total += found[name].numel()
            if total > TOTAL:
                raise ValueError(f"expected at most {TOTAL:,} numbers, got more")
        waiting += entries(inner.state.get("components", {})).values()
    return found


Change = Callable[[Tensor], Tensor]
Rename = Callable[[re.Match[str]], str]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _turned(weight: Float[Tensor, "k l i o"]) -> Float[Tensor, "o i k l"]:
    return weight.permute(3, 2, 0, 1)


_CONV = {"Conv": "conv1", "Conv1": "conv1", "Conv0_up": "conv0", "ToRGB": "torgb"}


def _place(match: re.Match[str]) -> str:
    return f"synthesis.b{match[1]}.{_CONV[match[2]]}"


def _noise_name(match: re.Match[str]) -> str:
    """noise0 belongs to 4 px; of the others two belong to each side, the first to its conv0."""
    number = int(match[1])
    return f"synthesis.b{4 * 2 ** ((number + 1) // 2)}.conv{1 if number % 2 == 0 else 0}.noise_const"


_TENSORFLOW: tuple[tuple[str, Rename, Change], ...] = (
    (r"Dense(\d+)/weight", lambda m: f"mapping.fc{m[1]}.weight", lambda t: t.T),
    (r"Dense(\d+)/bias", lambda m: f"mapping.fc{m[1]}.bias", _same),
    (r"4x4/Const/const", lambda m: "synthesis.b4.const", lambda t: t[0]),
    (r"(\d+)x\d+/(Conv|Conv1|ToRGB)/weight", lambda m: f"{_place(m)}.weight", _turned),
    (r"(\d+)x\d+/(Conv0_up)/weight", lambda m: f"{_place(m)}.weight", lambda t: _turned(t.flip((0, 1)))),
    (r"(\d+)x\d+/(Conv|Conv0_up|Conv1|ToRGB)/bias", lambda m: f"{_place(m)}.bias", _same),
    (r"(\d+)x\d+/(Conv|Conv0_up|Conv1|ToRGB)/mod_weight", lambda m: f"{_place(m)}.affine.weight", lambda t: t.T),
    (r"(\d+)x\d+/(Conv|Conv0_up|Conv1|ToRGB)/mod_bias", lambda m: f"{_place(m)}.affine.bias", lambda t: t + 1),
    (r"(\d+)x\d+/(Conv|Conv0_up|Conv1)/noise_strength", lambda m: f"{_place(m)}.noise_strength", _same),
    (r"noise(\d+)", _noise_name, lambda t: t[0, 0]),
)


def _convs(match: re.Match[str]) -> str:
    """convs.0 and convs.1 are the two of 8 px, and so on."""
    number = int(match[1])
    return f"synthesis.b{8 * 2 ** (number // 2)}.conv{number % 2}"


def _rgbs(match: re.Match[str]) -> str:
    return f"synthesis.b{8 * 2 ** int(match[1])}.torgb"


def _rosinality(head: str, place: Rename, *, paints: bool) -> tuple[tuple[str, Rename, Change], ...]:
    """Renames of one kind of layer."""
    own: tuple[tuple[str, Rename, Change], ...] = (
        (rf"{head}\.conv\.weight", lambda m: f"{place(m)}.weight", lambda t: t[0]),
        (rf"{head}\.conv\.modulation\.(?:weight)", lambda m: f"{place(m)}.affine.weight", _same),
        (rf"{head}\.conv\.modulation\.(?:bias)", lambda m: f"{place(m)}.affine.bias", _same),
    )
    if paints:
        return (*own, (rf"{head}\.bias", lambda m: f"{place(m)}.bias", lambda t: t.flatten()))
    return (
        *own,
        (rf"{head}\.activate\.bias", lambda m: f"{place(m)}.bias", lambda t: t.flatten()),
        (rf"{head}\.noise\.weight", lambda m: f"{place(m)}.noise_strength", lambda t: t.reshape([])),
    )


_ROSINALITY: tuple[tuple[str, Rename, Change], ...] = (
    (r"style\.(\d+)\.(weight|bias)", lambda m: f"mapping.fc{int(m[1]) - 1}.{m[2]}", _same),
    (r"input\.input", lambda m: "synthesis.b4.const", lambda t: t[0]),
    (r"noises\.noise_(\d+)", _noise_name, lambda t: t[0, 0]),
    *_rosinality("conv1", lambda m: "synthesis.b4.conv1", paints=False),
    *_rosinality("to_rgb1", lambda m: "synthesis.b4.torgb", paints=True),
    *_rosinality(r"convs\.(\d+)", _convs, paints=False),
    *_rosinality(r"to_rgbs\.(\d+)", _rgbs, paints=True),
)

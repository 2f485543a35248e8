"""Our tiny StyleGANs written as other programs write theirs: names, axes and raw weights, before any gain."""

import collections
import math
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ilora.generators.stylegan2 import StyleGAN2
from ilora.generators.stylegan3 import StyleGAN3

SOURCE = "raise SystemExit('the source of a pickle was run')"
RATE = 0.01


class Persistent:
    """What NVIDIA's persistent modules look like in a pickle: a function's name and a dictionary for it."""

    def __init__(self, name: str, **state: Any) -> None:
        self.name, self.state = name, {"training": False, "_init_args": (), "_init_kwargs": {}, **state}

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.name, "state": self.state}
        function = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj
        return function, (sys.modules["dnnlib.util"].EasyDict(meta),)


@contextmanager
def foreign() -> Iterator[None]:
    """Within it, the modules that the other programs' pickles name exist; afterwards they are gone again."""

    def _reconstruct_persistent_obj(meta: object) -> None:
        raise SystemExit(f"the reader called it: {meta}")

    names = {
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
        "dnnlib.util": {"EasyDict": type("EasyDict", (dict,), {})},
        "dnnlib.tflib.network": {"Network": type("Network", (), {})},
    }
    added = []
    for name, content in names.items():
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            place = ".".join(parts[:count])
            if place not in sys.modules:
                sys.modules[place] = types.ModuleType(place)
                added.append(place)
        for key, value in content.items():
            value.__module__, value.__qualname__ = name, key
            setattr(sys.modules[name], key, value)
    try:
        yield
    finally:
        for place in added:
            del sys.modules[place]


def module(
    name: str, parameters: dict[str, Tensor], buffers: dict[str, Tensor | None], inside: dict[str, Any], **own: Any
):
    """A persistent module with attributes of its own."""
    wrapped = collections.OrderedDict((key, nn.Parameter(value.clone())) for key, value in parameters.items())
    return Persistent(
        name,
        _parameters=wrapped,
        _buffers=collections.OrderedDict(buffers),
        _modules=collections.OrderedDict(inside),
        **own,
    )


def dense(layer: nn.Linear, *, rate: float = 1.0, activation: str = "linear") -> Persistent:
    """A fully connected layer with its gains divided out and remembered."""
    gain = rate / np.sqrt(layer.in_features)  # a numpy scalar, as in the real files
    weights = {"weight": layer.weight / float(gain), "bias": layer.bias / rate}
    return module("FullyConnectedLayer", weights, {}, {}, weight_gain=gain, bias_gain=rate, activation=activation)


def mapping(network: nn.Module) -> Persistent:
    """The mapping network."""
    own, inside = network.mapping, {}
    if own.shape.embedding:
        inside = {"embed": own.embed, "embed_proj": dense(own.embed_proj, activation="lrelu")}
    elif own.shape.classes:
        inside = {"embed": dense(own.embed)}
    for index in range(own.shape.layers):
        inside[f"fc{index}"] = dense(own.get_submodule(f"fc{index}"), rate=RATE, activation="lrelu")
    return module("MappingNetwork", {}, {"w_avg": own.w_avg}, inside, z_dim=own.shape.z, num_ws=network.shape.styles)


def write_ada(path: Path, network: StyleGAN2) -> None:
    """NVIDIA's pickle of StyleGAN 2 with ADA."""
    line = torch.tensor([1.0, 3, 3, 1]) / 8
    taps = line[:, None] * line
    blocks = {}
    for name, block in network.synthesis.named_children():
        layers = {}
        for key, layer in block.named_children():
            weights = {"weight": layer.conv.weight, "bias": layer.bias}
            buffers: dict[str, Tensor | None] = {}
            if key == "torgb":
                weights["weight"] = layer.conv.weight * math.sqrt(layer.conv.in_channels)
            else:
                weights["noise_strength"] = layer.noise_strength
                buffers = {"resample_filter": taps, "noise_const": layer.noise_const}
            layers[key] = module("Layer", weights, buffers, {"affine": dense(layer.affine)}, conv_clamp=256)
        const = {"const": block.const} if name == "b4" else {}
        blocks[name] = module("SynthesisBlock", const, {"resample_filter": taps}, layers, architecture="skip")
    synthesis = module("SynthesisNetwork", {}, {}, blocks, img_resolution=network.shape.resolution)
    _write(path, module("Generator", {}, {}, {"mapping": mapping(network), "synthesis": synthesis}))


def write_third(path: Path, network: StyleGAN3) -> None:
    """NVIDIA's pickle of StyleGAN 3, or of XL where the mapping looks classes up in a table."""
    own, inside = network.synthesis, {}
    source = own.input
    inside["input"] = module(
        "SynthesisInput",
        {"weight": source.weight * math.sqrt(len(source.weight))},
        {"transform": source.transform, "freqs": source.freqs, "phases": source.phases},
        {"affine": dense(source.affine)},
        size=np.array(source.size),
        sampling_rate=source.rate,
        bandwidth=np.float64(source.bandwidth),
        channels=len(source.weight),
    )
    for name in own.names:
        layer = own.get_submodule(name)
        shape = layer.shape
        weight = layer.conv.weight * (math.sqrt(layer.conv.weight[0].numel()) if shape.paints else 3.0)
        inside[name] = module(
            "SynthesisLayer",
            {"weight": weight, "bias": layer.bias},
            {
                "magnitude_ema": layer.gain**-2,
                "up_filter": layer.up_filter if shape.up_taps else None,
                "down_filter": layer.down_filter if shape.down_taps else None,
            },
            {"affine": dense(layer.affine)},
            is_torgb=shape.paints,
            up_factor=np.int64(shape.up),
            down_factor=np.int64(shape.down),
            padding=[int(number) for number in shape.padding],
            conv_clamp=256,
        )
    synthesis = module("SynthesisNetwork", {}, {}, inside, layer_names=own.names, img_resolution=16, output_scale=0.25)
    _write(path, module("Generator", {}, {}, {"mapping": mapping(network), "synthesis": synthesis}))


def _write(path: Path, generator: Persistent) -> None:
    with foreign(), path.open("wb") as file:
        other = module("Discriminator", {"weight": torch.ones(3)}, {}, {})
        kwargs = sys.modules["dnnlib.util"].EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=32)
        pickle.dump(
            {"G": other, "D": other, "G_ema": generator, "training_set_kwargs": kwargs, "augment_pipe": None}, file
        )


def write_tensorflow(path: Path, network: StyleGAN2) -> None:
    """NVIDIA's older pickle: three networks, of which the last is the averaged generator."""
    mapped, painted = [], []
    for index in range(network.shape.mapping.layers):
        layer = network.mapping.get_submodule(f"fc{index}")
        mapped.append((f"Dense{index}/weight", layer.weight.T * math.sqrt(layer.in_features) / RATE))
        mapped.append((f"Dense{index}/bias", layer.bias / RATE))
    for level in range(len(network.shape.widths)):
        side = 4 * 2**level
        block = network.synthesis.get_submodule(f"b{side}")
        if level == 0:
            painted.append(("4x4/Const/const", block.const[None]))
        names = {"conv0": "Conv0_up", "conv1": "Conv1" if level else "Conv", "torgb": "ToRGB"}
        for key, layer in block.named_children():
            name, weight = f"{side}x{side}/{names[key]}", layer.conv.weight.permute(2, 3, 1, 0)  # [k, l, i, o]
            weight = weight.flip((0, 1)) if key == "conv0" else weight
            weight = weight * math.sqrt(layer.conv.in_channels) if key == "torgb" else weight
            painted += [(f"{name}/weight", weight), (f"{name}/bias", layer.bias)]
            painted.append((f"{name}/mod_weight", layer.affine.weight.T * math.sqrt(layer.affine.in_features)))
            painted.append((f"{name}/mod_bias", layer.affine.bias - 1))
            if key != "torgb":
                painted.append((f"{name}/noise_strength", layer.noise_strength))
                number = 0 if level == 0 else 2 * level - (key == "conv0")
                painted.append((f"noise{number}", layer.noise_const[None, None]))
    with foreign(), path.open("wb") as file:
        kind = sys.modules["dnnlib.tflib.network"].Network

        def made(variables: list[tuple[str, Tensor]], components: dict[str, Any]) -> Any:
            one = kind()
            arrays = [(name, np.ascontiguousarray(tensor.numpy())) for name, tensor in variables]
            one.__dict__ |= {
                "version": 4, "name": "G", "static_kwargs": {"fmap_base": 8192}, "build_module_src": SOURCE,
                "build_func_name": "G_main", "variables": arrays, "components": components,
            }  # fmt: skip
            return one

        parts = {"mapping": made(mapped, {}), "synthesis": made(painted, {})}
        pickle.dump((made([], {}), made([], {}), made([("dlatent_avg", network.mapping.w_avg)], parts)), file)


def write_rosinality(path: Path, network: StyleGAN2, *, old: bool = False, mean: bool = True) -> None:
    """rosinality's file; ``old``: in torch's format before 1.6, ``mean``: with the mean style."""
    raw: dict[str, Tensor] = {}
    for index in range(network.shape.mapping.layers):
        layer = network.mapping.get_submodule(f"fc{index}")
        raw[f"style.{index + 1}.weight"] = layer.weight * math.sqrt(layer.in_features) / RATE
        raw[f"style.{index + 1}.bias"] = layer.bias / RATE
    for level in range(len(network.shape.widths)):
        block = network.synthesis.get_submodule(f"b{4 * 2**level}")
        names = {"conv0": f"convs.{2 * level - 2}", "conv1": f"convs.{2 * level - 1}", "torgb": f"to_rgbs.{level - 1}"}
        if level == 0:
            raw["input.input"] = block.const[None]
            names = {"conv1": "conv1", "torgb": "to_rgb1"}
        for key, layer in block.named_children():
            name, weight = names[key], layer.conv.weight[None]
            raw[f"{name}.conv.weight"] = weight * math.sqrt(layer.conv.in_channels) if key == "torgb" else weight
            raw[f"{name}.conv.modulation.weight"] = layer.affine.weight * math.sqrt(layer.affine.in_features)
            raw[f"{name}.conv.modulation.bias"] = layer.affine.bias
            if key == "torgb":
                raw[f"{name}.bias"] = layer.bias.view(1, 3, 1, 1)
                continue
            raw[f"{name}.activate.bias"] = layer.bias
            raw[f"{name}.noise.weight"] = layer.noise_strength.view(1)
            number = 0 if level == 0 else 2 * level - (key == "conv0")
            raw[f"noises.noise_{number}"] = layer.noise_const[None, None]
    raw = {name: tensor.clone() for name, tensor in raw.items()}
    content: dict[str, Any] = {"g": {}, "g_ema": raw, "d": {"x": torch.ones(2)}}
    if mean:
        content["latent_avg"] = network.mapping.w_avg.clone()
    torch.save(content, path, _use_new_zipfile_serialization=not old)

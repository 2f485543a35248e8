"""Adapters of other tools: read from PEFT, diffusers, kohya and the original Intrinsic LoRA files, written to the
first three.

Every format stores, for each adapted layer, a down-projection A, an up-projection B, for DoRA a magnitude, and some
form of scale. Here the scale is folded into B, so that alpha = rank says it all and no reader can get it wrong.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora import tensors
from ilora.adapters import file
from ilora.adapters.lora import ADAPTABLE, LOW_RANK, downs
from ilora.config import AdapterConfig

FORMATS = ("diffusers", "peft", "kohya")  # that export writes
_NAMES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "adapter_model.bin", "pytorch_model.bin")
_PART = re.compile(
    r"(?P<layer>.+?)[._]lora[._](?P<part>A|B|down|up|magnitude_vector)(?:\.default)?(?:\.weight)?"  # PEFT and others
    r"|(?P<kohya>.+)\.(?P<scalar>alpha|dora_scale)"
)
_PARTS = {"A": "down", "B": "up", "magnitude_vector": "magnitude", "dora_scale": "magnitude"}  # others keep their name
_PREFIXES = ("base_model.model.", "unet.", "transformer.", "lora_unet_")
_TRANSFORMER = re.compile(
    r"((single_)?transformer_blocks|layers|(noise|context)_refiner)\."
)  # of diffusers, not U-Nets
_FLAT = {  # kohya on Stable Diffusion XL: a residual block's layers in the original layout, dots flattened
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
    "emb_layers_1": "time_emb_proj",
}


@dataclass
class _Layer:
    """One adapted layer as a file has it."""

    down: Float[Tensor, "r inputs *kernel"] | None = None  # A
    up: Float[Tensor, "o r *ones"] | None = None  # B
    magnitude: Float[Tensor, "*o"] | None = None  # one value an output, among ones
    alpha: Float[Tensor, ""] | None = None


def read(path: Path, network: nn.Module) -> tuple[dict[str, Tensor], AdapterConfig]:
    """An adapter of another tool as ``lora.load_state`` takes it, with the configuration to attach first.

    Layers of smaller rank are filled up with zeros to the largest rank; scales are folded into B.

    Args:
        path: a safetensors file, a file of tensors written by ``torch.save``, or a folder with one of them.
        network: the network that it will adapt; names and shapes are checked against it.

    Returns:
        Weights in float32 and ``AdapterConfig`` whose ``targets`` is the expression to pass to ``lora.attach``.

    Raises:
        FileNotFoundError: no file, or none with a known name in the folder.
        ValueError: more than tensors in the file, a method other than LoRA and DoRA, or layers ``network`` has not.
    """
    weights, settings = _open(path)
    layers: dict[str, _Layer] = {}
    known = {name: module for name, module in network.named_modules() if isinstance(module, ADAPTABLE)}
    per_block = getattr(getattr(network, "config", None), "layers_per_block", 2)
    flat = {name.replace(".", "_"): name for name in known}
    for key, tensor in weights.items():
        name, part = _split(key)
        name = f"{name}.0" if name.endswith("to_out") and name not in known else name
        name = name if name in known else flat.get(_original(name.replace(".", "_"), per_block), name)
        if name not in known:
            raise ValueError(f"{path} adapts {key!r}, which this {type(network).__name__} has no layer for")
        if key.endswith(".dora_scale") and tensor.shape[0] != known[name].weight.shape[0]:
            raise ValueError(f"{key} must hold one magnitude an output, got {tuple(tensor.shape)}, one an input")
        setattr(layers.setdefault(name, _Layer()), part, tensor)
    halves = sorted(name for name, layer in layers.items() if layer.down is None or layer.up is None)
    if halves or not layers:
        raise ValueError(f"{path} must hold A and B of each layer, got one of them for {halves[:3]} of {len(layers)}")
    return _uniform(layers, known, settings)


def export(adapter: Path, to: str, out: Path) -> Path:
    """Write an adapter of ours for another tool; its output there is ours to rounding.

    Args:
        adapter: run folder or adapter file.
        to: ``diffusers`` (for ``load_lora_weights``), ``peft`` (for ``PeftModel.from_pretrained`` on the denoiser) or
            ``kohya`` (web interfaces and node editors).
        out: folder to write into.

    Returns:
        The file with the weights.

    Raises:
        ValueError: an unknown format, or an adapter that the format cannot hold: one whose every weight moved; for
            kohya DoRA, whose readers disagree about the magnitudes (diffusers drops them), or a transformer's.
    """
    if to not in FORMATS:
        raise ValueError(f"an adapter is exported to one of {', '.join(FORMATS)}, got {to!r}")
    weights, about = file.read(adapter)
    config = about.adapter
    if config.method not in LOW_RANK:
        raise ValueError(f"{to} holds low-rank changes, got an adapter that moves all weights ({config.method!r})")
    if to == "kohya" and config.method == "dora":
        raise ValueError(f"{to} has no agreed form of DoRA, got an adapter of method 'dora'; use diffusers or peft")
    denoiser = "transformer" if any(_TRANSFORMER.match(key) for key in weights) else "unet"
    if to == "kohya" and denoiser == "transformer":
        raise ValueError(f"{to} has names for U-Nets only, got an adapter of a transformer; use diffusers or peft")
    scale = _scale(config.rank, config.rank if config.alpha is None else config.alpha, config.method == "rslora")
    weights = {key: tensor * scale if key.endswith("lora_B.weight") else tensor for key, tensor in weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    weights, config = _even(weights), config.replace(rank=max(map(len, downs(weights).values())))
    if to == "kohya":
        path, named = out / "ilora.safetensors", _to_kohya(weights, config.rank)
    elif to == "peft":
        path, named = out / _NAMES[0], {f"base_model.model.{key}": tensor for key, tensor in weights.items()}
        _write_peft_settings(out / "adapter_config.json", sorted({_split(key)[0] for key in weights}), config)
    else:
        path, named = out / _NAMES[1], {f"{denoiser}.{key}": tensor for key, tensor in weights.items()}
    tensors.write(path, named, file.header(about))
    return path


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a file or folder and the LoRA settings that came along, empty where there are none."""
    if path.is_dir():
        found = [path / name for name in _NAMES if (path / name).exists()]
        if not found:
            raise FileNotFoundError(f"no adapter in {path}; expected one of {', '.join(_NAMES)}")
        path = found[0]
    weights, header = tensors.read(path)
    packed = json.loads(header.get("lora_adapter_metadata", "{}"))
    beside = path.with_name("adapter_config.json")
    settings = json.loads(beside.read_text()) if beside.exists() else {}
    return weights, settings | {re.sub(r"^(unet|transformer)\.", "", key): value for key, value in packed.items()}


def _split(key: str) -> tuple[str, str]:
    """The layer's name, as far as the format tells it, and which of its parts a tensor is."""
    found = _PART.fullmatch(key)
    name = (found["layer"] or found["kohya"]) if found else ""
    name = name.removeprefix(next(filter(name.startswith, _PREFIXES), ""))
    if not found or name.startswith(("lora_te", "text_encoder")):
        raise ValueError(f"only LoRA and DoRA of the denoiser's layers can be read, got a tensor named {key!r}")
    name = name.replace(".processor", "")
    part = found["part"] or found["scalar"]
    return name, _PARTS.get(part, part)


def _original(name: str, per_block: int) -> str:
    """Flattened name of a layer in the original U-Net's block numbering -> the same in diffusers' numbering.

    Block i of the input side is layer (i - 1) mod (per_block + 1) of level (i - 1) div (per_block + 1), the last layer
    of a level being its downsampler; on the output side the upsampler comes last in the level's last block.
    """
    found = re.fullmatch(r"(input|output)_blocks_(\d+)_(\d+)_(.+)|middle_block_(\d)_(.+)", name)
    if not found:
        return name
    side, block, member, rest, middle, middle_rest = found.groups()
    if middle:
        kind = ("resnets_0", "attentions_0", "resnets_1")[int(middle)]
        return f"mid_block_{kind}_{_FLAT.get(middle_rest, middle_rest)}"
    level, layer = divmod(int(block) - (side == "input"), per_block + 1)
    stem = f"{'down' if side == 'input' else 'up'}_blocks_{level}"
    if rest in ("op", "conv"):
        return f"{stem}_{'downsamplers' if rest == 'op' else 'upsamplers'}_0_conv"
    return f"{stem}_{'attentions' if member == '1' else 'resnets'}_{layer}_{_FLAT.get(rest, rest)}"


def _scale(rank: int, alpha: float, root: bool) -> float:
    """Factor of B A x: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA (Kalajdzievski 2023, eq. 4)."""
    return alpha / math.sqrt(rank) if root else alpha / rank


def _uniform(
    layers: dict[str, _Layer], known: dict[str, nn.Module], settings: dict[str, Any]
) -> tuple[dict[str, Tensor], AdapterConfig]:
    """All layers at the largest rank, alpha = rank, in the shapes that the network's layers give."""
    rank = max(layer.down.shape[0] for layer in layers.values())
    decomposed = any(layer.magnitude is not None for layer in layers.values())
    weights: dict[str, Tensor] = {}
    for name, layer in layers.items():
        weight: Float[Tensor, "o inputs *kernel"] = known[name].weight
        own = layer.down.shape[0]
        alpha = _pattern(settings.get("alpha_pattern") or {}, name, settings.get("lora_alpha", own))
        alpha = alpha if layer.alpha is None else layer.alpha.item()
        scale = _scale(own, alpha, bool(settings.get("use_rslora")))  # of B A, [o, i, ...]
        down = _shaped(layer.down, (own, *weight.shape[1:]), name)
        up = _shaped(layer.up, (weight.shape[0], own, *(1 for _ in weight.shape[2:])), name) * scale
        rows, columns = (rank - own, *down.shape[1:]), (up.shape[0], rank - own, *up.shape[2:])
        weights[f"{name}.lora_A.weight"] = torch.cat([down, down.new_zeros(rows)])  # [r, i, ...]
        weights[f"{name}.lora_B.weight"] = torch.cat([up, up.new_zeros(columns)], 1)  # [o, r, ...]
        if decomposed:
            weights[f"{name}.lora_magnitude_vector"] = _magnitude(layer.magnitude, weight, name)
    targets = "|".join(re.escape(name) for name in layers)
    return weights, AdapterConfig(method="dora" if decomposed else "lora", rank=rank, targets=targets)


def _even(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same change with every layer at the largest rank, the rest zeros: readers know one rank, or guess at it."""
    rank, result = max(map(len, downs(weights).values())), {}
    for key, tensor in weights.items():
        side = 0 if key.endswith("lora_A.weight") else 1 if key.endswith("lora_B.weight") else None  # of the ranks
        more = 0 if side is None else rank - tensor.shape[side]
        shape = [more if place == side else size for place, size in enumerate(tensor.shape)]
        result[key] = torch.cat([tensor, tensor.new_zeros(shape)], side) if more else tensor
    return result


def _pattern(patterns: dict[str, float], name: str, default: float) -> float:
    """PEFT's rule for settings of single layers: the first key that matches the name's end, or the whole with ``^``."""
    found = [value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)]
    return found[0] if found else default


def _shaped(
    tensor: Float[Tensor, "rows columns *other"], shape: tuple[int, ...], name: str
) -> Float[Tensor, "rows columns *kernel"]:
    """A projection in the layer's own form: a 1x1 convolution and a linear layer are written either way."""
    if tensor.numel() != math.prod(shape) or tensor.shape[:2] != shape[:2]:
        raise ValueError(f"the adapter of {name} must have shape {shape} here, got {tuple(tensor.shape)}")
    return tensor.float().reshape(shape)


def _magnitude(
    tensor: Float[Tensor, "*shape"] | None, weight: Float[Tensor, "o inputs *kernel"], name: str
) -> Float[Tensor, "*out"]:
    """DoRA's length of each output's weights, as PEFT shapes it: [out], for convolutions [1, out, 1, 1]."""
    outputs = weight.shape[0]
    if tensor is None or tensor.numel() != outputs:
        got = None if tensor is None else tuple(tensor.shape)
        raise ValueError(f"DoRA needs one magnitude for each of the {outputs} outputs of {name}, got {got}")
    return tensor.float().reshape(outputs if weight.ndim == 2 else (1, outputs, *(1 for _ in weight.shape[2:])))


def _to_kohya(weights: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """kohya's names: dots flattened, and the scale's numerator beside each layer."""
    named: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name, part = _split(key)
        stem = f"lora_unet_{name.replace('.', '_')}"
        named[f"{stem}.lora_{part}.weight"] = tensor
        named[f"{stem}.alpha"] = torch.tensor(float(rank))
    return named


def _write_peft_settings(path: Path, layers: list[str], config: AdapterConfig) -> None:
    settings = {
        "peft_type": "LORA",
        "r": config.rank,
        "lora_alpha": config.rank,
        "target_modules": layers,
        "init_lora_weights": "gaussian",
        "use_dora": config.method == "dora",
        "inference_mode": True,
    }
    path.write_text(json.dumps(settings, indent=2))

"""Our own form of a StyleGAN: a folder with ``config.json``, ``generator.safetensors`` and, for real pictures,
``encoder.safetensors``."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ilora import tensors
from ilora.config import Configuration
from ilora.generators.inversion import Encoder, EncoderShape, Inversion
from ilora.generators.stylegan2 import TAPS, Shape2, StyleGAN2
from ilora.generators.stylegan3 import Shape3, StyleGAN3
from ilora.generators.stylegan_sources import Checkpoint, open_file
from ilora.images import replacing

FAMILY = "stylegan"  # in a folder's config.json
CONFIG, WEIGHTS, ENCODER = "config.json", "generator.safetensors", "encoder.safetensors"
LICENCE = "that of the weights; those that NVIDIA published are for non-commercial use only"
SUFFIXES = (".pkl", ".pt")  # of other programs' files
ARCHITECTURES: dict[str, tuple[type[Configuration], type[nn.Module]]] = {
    "stylegan2": (Shape2, StyleGAN2),
    "stylegan3": (Shape3, StyleGAN3),
}


@dataclass
class Opened:
    """A StyleGAN in memory.

    Attributes:
        network: mapping and synthesis, frozen, on the CPU.
        encoder: of real pictures; None where there is none yet.
        inversion: how real pictures become codes.
        files: that hold the weights.
    """

    network: nn.Module
    encoder: Encoder | None = None
    inversion: Inversion = field(default_factory=Inversion)
    files: list[Path] = field(default_factory=list)


def recognised(path: Path) -> bool:
    """Whether a folder or file is for this module to open, by its name and its first words."""
    if path.is_file():
        return path.suffix in SUFFIXES
    config = path / CONFIG
    return config.is_file() and f'"{FAMILY}"' in config.read_text(encoding="utf-8", errors="replace")[:1000]


def open_path(path: Path) -> Opened:
    """Open a folder of ours, or another program's file.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part is damaged or does not fit the others.
    """
    if path.is_file():
        return Opened(assembled(open_file(path)), files=[path])
    config = _config(path / CONFIG)
    shape = ARCHITECTURES[config["architecture"]][0].read(config["shape"])
    network = assembled(Checkpoint(shape, tensors.read(path / WEIGHTS)[0], str(path)))
    encoder = open_encoder(path / ENCODER) if (path / ENCODER).is_file() else None
    files = [file for file in (path / WEIGHTS, path / ENCODER) if file.is_file()]
    return Opened(network, encoder, Inversion.read(config.get("inversion", {})), files)


def assembled(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint, float32, frozen.

    Raises:
        ValueError: the weights are not those of a network of this shape.
    """
    kind = next(module for shape, module in ARCHITECTURES.values() if isinstance(checkpoint.shape, shape))
    with torch.device("meta"):
        network = kind(checkpoint.shape)
    try:
        # In memory of their own: tensors read from a file begin anywhere, and kernels round by where they begin.
        network.load_state_dict({name: _own(tensor) for name, tensor in checkpoint.weights.items()}, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the weights of {checkpoint.origin} do not fit the network that they describe: {reason}"
        ) from error
    _constants(network)
    return network.eval().requires_grad_(False)


def write(folder: Path, network: nn.Module, *, origin: str, dtype: torch.dtype = torch.float32) -> Path:
    """Write a network as a folder of ours.

    Args:
        origin: where it came from, in words.
        dtype: of the file.
    """
    weights = {name: tensor.detach().cpu().to(dtype) for name, tensor in network.state_dict().items()}
    tensors.write(folder / WEIGHTS, weights, {})
    name = next(name for name, (_, kind) in ARCHITECTURES.items() if isinstance(network, kind))
    write_config(
        folder,
        {"family": FAMILY, "architecture": name, "origin": origin, "licence": LICENCE, "shape": network.shape.write()},
    )
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write or extend ``config.json``."""
    path = folder / CONFIG
    kept = _config(path) if path.is_file() else {}
    with replacing(path) as draft:
        draft.write_text(json.dumps(kept | config, indent=1) + "\n", encoding="utf-8")


def write_encoder(folder: Path, encoder: Encoder) -> None:
    """Put an encoder of real pictures beside a generator, in half precision."""
    weights = {name: tensor.detach().cpu().half() for name, tensor in encoder.state_dict().items()}
    tensors.write(folder / ENCODER, weights, {"shape": json.dumps(encoder.shape.write(), sort_keys=True)})


def open_encoder(path: Path) -> Encoder:
    """Read what ``write_encoder`` wrote.

    Raises:
        ValueError: no such file, or a damaged one.
    """
    weights, header = tensors.read(path)
    try:
        encoder = Encoder(EncoderShape.read(json.loads(header["shape"])))
        encoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} must be an encoder that ilora wrote, got another file; train it again") from error
    return encoder.eval().requires_grad_(False)


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; expected a folder that 'ilora convert' wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, got something else ({error}); convert the checkpoint again") from error
    if config.get("architecture") not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"{path} must name an architecture among {known}, got {config.get('architecture')!r}")
    return config


def _own(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32, copy=True)


def _constants(network: nn.Module) -> None:
    """Give the buffers that no file holds their values, which a network made without memory lacks."""
    for module in network.modules():
        if "taps" in module._buffers:
            module.taps = torch.tensor(TAPS)

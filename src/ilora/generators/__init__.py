"""Generators: one protocol (base.py), one file a family, found by name."""

import importlib
from pathlib import Path

import torch

from ilora.config import Readout
from ilora.generators.base import Generator

WEIGHTS = Path(__file__).parent.parent / "zoo" / "weights"  # one folder an embedded generator
FAMILIES = {  # name: module; asked in turn whether they recognise what is to be loaded, latent diffusion takes the rest
    "toy": "toy",
    "autoregressive": "autoregressive",
}


def embedded() -> list[str]:
    """Names of the generators that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model_index.json"))


def load(
    name_or_path: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    readout: Readout | None = None,
) -> Generator:
    """A generator ready to paint, all of it frozen.

    Args:
        name_or_path: an embedded name, ``toy``, a diffusers folder, a .safetensors or .ckpt file, or a hub id.
        device: of the network and the codec; text encoders stay on the CPU.
        dtype: of the network. The codec follows, except that it stays float32 beside a float16 network.
        readout: how the network's output becomes the clean latent; None: ``Readout()``, the published recipe.

    Raises:
        FileNotFoundError: nothing of that name, here or on the hub.
        ValueError: files that are not a checkpoint of a known family.
        ImportError: the family's library is missing; the message names the extra.
    """
    modules = (importlib.import_module(f"ilora.generators.{module}") for module in FAMILIES.values())
    family = next((module for module in modules if module.recognises(name_or_path)), None)
    family = family or importlib.import_module("ilora.generators.latent_diffusion")
    return family.load(name_or_path, device=device, dtype=dtype, readout=readout or Readout())

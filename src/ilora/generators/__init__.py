"""Generators: one protocol (base.py), one file a family, found by name."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ilora.config import Readout
from ilora.generators import foreign
from ilora.generators.base import Generator, lacking

WEIGHTS = Path(__file__).parent.parent / "zoo" / "weights"  # one folder an embedded generator
FAMILIES = {  # name: module; asked in turn whether they recognise what is to be loaded, latent diffusion takes the rest
    "toy": "toy",
    "flow_matching": "flow_matching",
    "stylegan": "stylegan",
    "autoregressive": "autoregressive",
}
CONVERTED = "these can be converted: a StyleGAN's .pkl or .pt, a .ckpt of taming-transformers with its .yaml beside it"


def embedded() -> list[str]:
    """Names of the generators that come with the package."""
    return sorted({path.parent.name for index in ("model_index", "config") for path in WEIGHTS.glob(f"*/{index}.json")})


def load(
    name_or_path: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    readout: Readout | None = None,
) -> Generator:
    """A generator ready to paint, all of it frozen.

    Args:
        name_or_path: an embedded name, ``toy``, a diffusers folder, a .safetensors or .ckpt file, a hub id; a folder
            that ``convert`` wrote, or a StyleGAN's .pkl or .pt file; or ``MODULE:CLASS`` of a generator of the user's
            own (``ilora.generators.foreign``).
        device: of the network and the codec; text encoders stay on the CPU.
        dtype: of the network. The codec follows, except that it stays float32 beside a float16 network.
        readout: how the network's output becomes the clean latent; None: ``Readout()``, the published recipe.

    Raises:
        FileNotFoundError: nothing of that name, here or on the hub.
        ValueError: files that are not a checkpoint of a known family, an object without all of the protocol, or a
            readout that the family does not know.
        ImportError: the family's library is missing; the message names the extra.
    """
    readout = readout or Readout()
    made = construct(name_or_path, device=device, dtype=dtype, readout=readout)
    if missing := lacking(made):
        raise ValueError(
            f"{name_or_path} must have all of the protocol ilora.generators.base.Generator, got none of "
            f"{', '.join(missing)}; ilora check-generator {name_or_path} says what is wrong with the rest"
        )
    if readout.paint not in getattr(made, "paints", ("single",)):
        raise ValueError(
            f"paint must be single for {name_or_path}, which paints in one pass, got {readout.paint!r}; "
            "latent diffusion paints in several"
        )
    return made


def construct(name_or_path: str, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> Any:
    """What ``load`` gives back, before it is looked at; arguments and errors as there."""
    given = {"device": device, "dtype": dtype, "readout": readout}
    if foreign.is_code(name_or_path):
        return foreign.construct(name_or_path, **given)
    return _family(name_or_path).load(name_or_path, **given)


def convert(checkpoint: Path | str, out: Path | str) -> Path:
    """Read another program's checkpoint once, as data, and write it as a folder of safetensors and JSON for ``load``.

    Raises:
        FileNotFoundError: no such checkpoint.
        FileExistsError: ``out`` holds files.
        ValueError: damaged, hostile or of an unknown layout, or of a family that is read as it is.
    """
    checkpoint, out = Path(checkpoint).expanduser(), Path(out).expanduser()
    if not checkpoint.exists():
        raise FileNotFoundError(f"no checkpoint at {checkpoint}; expected a file that another program wrote")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"expected an empty folder, got {out} with files in it; choose another")
    family = _family(str(checkpoint))
    if not family.recognises(str(checkpoint)):
        raise ValueError(f"expected a generator's checkpoint, got {checkpoint}, which no family knows; {CONVERTED}")
    if not hasattr(family, "convert"):
        raise ValueError(f"{checkpoint} needs no conversion, got one that is loaded as it is: --generator {checkpoint}")
    return family.convert(checkpoint, out)


def _family(name_or_path: str) -> ModuleType:
    modules = (importlib.import_module(f"ilora.generators.{module}") for module in FAMILIES.values())
    family = next((module for module in modules if module.recognises(name_or_path)), None)
    return family or importlib.import_module("ilora.generators.latent_diffusion")

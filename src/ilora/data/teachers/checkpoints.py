"""Where the weights of a teacher are: a folder, or a hub id in the local cache or on the hub. Safetensors only."""

import difflib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ilora.data.cache import content_hash

LAYOUT = (
    "a folder with config.json, model.safetensors and preprocessor_config.json (transformers), or with "
    "model_index.json, unet/, vae/, text_encoder/, tokenizer/ and scheduler/ (diffusers)"
)
PIPELINE, MODEL = "model_index.json", "config.json"
_WANTED = ("*.json", "*/*.json", "*/*.txt", "*.safetensors", "*/*.safetensors")


def find(where: str, *, known: dict[str, str]) -> Path:
    """The folder of a teacher's weights.

    Args:
        where: a path, a name in ``known``, or a hub id.
        known: hub ids by the names that stand for them.

    Raises:
        FileNotFoundError: nothing there, or nothing within reach; the message gives the layout that would do.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder
    hub_id = known.get(where, where)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id) or folder.is_file():
        names = ", ".join(f"{name} ({hub})" for name, hub in known.items())
        near = difflib.get_close_matches(where, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise FileNotFoundError(
            f"no teacher {where!r}{hint}: expected a run folder of ilora fit, MODULE:CLASS, {LAYOUT}, a hub id, "
            f"or one of {names}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    reason = "without weights in safetensors"
    for offline in (True, False):
        try:
            found = Path(
                snapshot_download(
                    hub_id, local_files_only=offline, allow_patterns=_WANTED, ignore_patterns=["*.fp16.*", "onnx/*"]
                )
            )
        except (OSError, ValueError, HfHubHTTPError, OfflineModeIsEnabled) as error:
            reason = str(error).splitlines()[0]
            continue
        if weights(found):
            return found
    raise FileNotFoundError(
        f"{hub_id} is not in the local hub cache and the hub did not give it ({reason}); "
        f"offline, pass the path of {LAYOUT}"
    )


def weights(folder: Path) -> list[Path]:
    """The safetensors files of a folder and the folders in it, sorted."""
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")])


def kind(folder: Path) -> str:
    """Class of the model or pipeline in a folder, as its JSON names it.

    Raises:
        FileNotFoundError: no such JSON, or no weights in safetensors.
        ValueError: the JSON names no class.
    """
    if not weights(folder):
        raise FileNotFoundError(f"{folder} holds no weights in safetensors; expected {LAYOUT}")
    if (folder / PIPELINE).is_file():
        return str(read(folder / PIPELINE).get("_class_name"))
    if not (folder / MODEL).is_file():
        raise FileNotFoundError(f"{folder} has neither {PIPELINE} nor {MODEL}; expected {LAYOUT}")
    named = read(folder / MODEL).get("architectures") or []
    if len(named) != 1:
        raise ValueError(f"{folder / MODEL} must name one class as its architectures, got {named}; add it")
    return str(named[0])


def read(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON, got something else ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object, got {type(content).__name__}; download it again")
    return content


def fingerprint(folder: Path, *settings: str | int | float) -> str:
    """Hash of a folder's weights and JSON files and of what else the answers depend on, 32 hexadecimal digits."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])
    named = [(path.relative_to(folder).as_posix(), path) for path in (*files, *weights(folder))]
    return content_hash(*named, *settings)[:32]


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, transformers and diffusers draw no progress bars."""
    from diffusers.utils import logging as pipelines
    from transformers.utils import logging as models

    drawn = [(bars, bars.is_progress_bar_enabled()) for bars in (pipelines, models)]
    for bars, _ in drawn:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        for bars, were in drawn:
            if were:
                bars.enable_progress_bar()

"""Teachers by name, and what is said where there is none."""

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest

from ilora.data.teachers import KNOWN, teacher


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and no hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_an_unknown_name_lists_the_known_ones_and_the_layout() -> None:
    with pytest.raises(FileNotFoundError, match="no teacher 'depht'") as refused:
        teacher("depht")
    with pytest.raises(FileNotFoundError, match=r"no teacher 'zoedpeth' \(did you mean 'zoedepth'\?\)"):
        teacher("zoedpeth")
    words = str(refused.value)
    assert all(f"{name} ({hub_id})" in words for name, hub_id in KNOWN.items())
    assert "config.json, model.safetensors" in words and "model_index.json" in words


def test_offline_says_what_would_do(offline: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"Intel/dpt-large is not in the local hub cache .*offline, pass the path"
    ):
        teacher("dpt-large")


def test_a_known_name_comes_from_the_hub_cache(offline: Path, folders: dict[str, Path]) -> None:
    place = offline / "models--Intel--dpt-large"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("1" * 40)
    shutil.copytree(folders["dpt"], place / "snapshots" / ("1" * 40))
    assert teacher("dpt-large").fingerprint == teacher(str(folders["dpt"])).fingerprint


def test_the_fingerprint_is_that_of_the_content(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["dpt"], tmp_path / "copy")
    before = teacher(str(tmp_path / "copy")).fingerprint
    assert before == teacher(str(folders["dpt"])).fingerprint
    file = tmp_path / "copy" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"resample": 3}))
    assert teacher(str(tmp_path / "copy")).fingerprint != before


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({"config.json": {"architectures": ["DPTForDepthEstimation"]}}, FileNotFoundError, "no weights in safetensors"),
        ({"config.json": {}, "model.safetensors": {}}, ValueError, "must name one class as its architectures, got"),
        ({"model.safetensors": {}}, FileNotFoundError, "has neither model_index.json nor config.json"),
        (
            {"config.json": {"architectures": ["BertModel"]}, "model.safetensors": {}},
            ValueError,
            "must hold one of DepthAnythingForDepthEstimation, .*, got BertModel; write a teacher: MODULE:CLASS",
        ),
    ],
)
def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, files: dict[str, object], error: type[Exception], words: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(error, match=words):
        teacher(str(tmp_path))


def test_pickled_weights_are_not_touched(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(folders["dpt"] / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(FileNotFoundError, match="no weights in safetensors"):
        teacher(str(tmp_path))


OWN = """
class Grey:
    name, fingerprint, story, declares = "grey", "1", "everything is far away", {}
    def __init__(self, device):
        self.device = device
    def label(self, image):
        return {}
class Half:
    name = "half"
    def __init__(self, device): ...
"""


def test_a_teacher_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_own.py").write_text(OWN)
    with pytest.raises(ImportError, match="no module 'mine_own'; put its folder on PYTHONPATH"):
        teacher("mine_own:Grey")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert teacher("mine_own:Grey", device="cpu").device == "cpu"
    with pytest.raises(ValueError, match="must be a teacher, got one without fingerprint, declares, story, label"):
        teacher("mine_own:Half")
    with pytest.raises(ValueError, match="module mine_own must have the class Gray, got none"):
        teacher("mine_own:Gray")
    sys.modules.pop("mine_own")

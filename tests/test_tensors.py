import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ilora import tensors
from tests.generators.test_original import Hostile

CONTENT = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "b": torch.zeros(3, dtype=torch.half)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Same names, types and bits."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    tensors.write(path, {**CONTENT, "a.weight": CONTENT["a.weight"].T.contiguous().T}, {"story": "of it"})
    found, header = tensors.read(path)
    assert same(found, CONTENT)
    assert header == {"story": "of it"}
    assert same(load_file(path), CONTENT)
    assert [other.name for other in path.parent.iterdir()] == ["a.safetensors"]


def test_both_kinds_of_files_are_read_the_same(tmp_path: Path) -> None:
    """Pickled tensors alone, and with ``state_dict`` beside other entries."""
    save_file(CONTENT, tmp_path / "a.safetensors")
    torch.save(CONTENT, tmp_path / "a.bin")
    torch.save({"state_dict": CONTENT, "global_step": 7, "note": "words"}, tmp_path / "a.ckpt")
    for name in ("a.safetensors", "a.bin", "a.ckpt"):
        found, header = tensors.read(tmp_path / name)
        assert same(found, CONTENT)
        assert tensors.names(tmp_path / name) == list(found)
        assert tensors.read(tmp_path / name, only=("a.w", "b"))[0].keys() == {"a.weight", "b"}
    assert header == {"global_step": "7", "note": "words"}


def test_a_trainers_bookkeeping_is_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old checkpoints carry objects of the training framework; they are read as nothing."""
    module = types.ModuleType("pytorch_lightning.callbacks")
    kind = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = kind
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    saved = kind()
    saved.best = Path("model.ckpt").name
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": {kind: saved}, "epoch": 3}, tmp_path / "a.ckpt")
    monkeypatch.undo()
    found, header = tensors.read(tmp_path / "a.ckpt")
    assert torch.equal(found["a"], torch.ones(2))
    assert header == {"epoch": "3"}


def test_a_hostile_pickle_does_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "a.pt", tmp_path / "it ran"
    for content in (Hostile(trace), {"a": torch.ones(1), "b": Hostile(trace)}):
        torch.save(content, path)
        for function in (tensors.read, tensors.names):
            with pytest.raises(ValueError, match=r"could not be read as tensors alone, and nothing in it was run"):
                function(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "is not a whole safetensors file"),
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{", "is not a whole safetensors file"),
        ("a.ckpt", b"", "could not be read as tensors alone"),
        ("a.ckpt", b"PK\3\4 and no more", "could not be read as tensors alone"),
        ("a.bin", b"no pickle at all", "could not be read as tensors alone"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    for function in (tensors.read, tensors.names):
        with pytest.raises(ValueError, match=f"{name} {message}"):
            function(tmp_path / name)


def test_other_contents_are_named(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"must hold a dictionary of tensors, got list"):
        tensors.read(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.ckpt; expected \.safetensors, \.ckpt"):
        tensors.read(tmp_path / "absent.ckpt")

"""Entries are made once, follow their inputs, survive damage, and are what was made."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ilora.data.cache import Cache, content_hash


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        whole = torch.linspace(-1, 1, 12).reshape(3, 4)
        return {"code": whole.T, "same": whole.T, "half": whole.bfloat16(), "valid": whole > 0}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal names, types and bits."""
    return a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


def test_an_entry_is_made_once_and_returns_the_same_bits(tmp_path: Path) -> None:
    make = Maker()
    first = Cache(tmp_path).get("generator", torch.ones(3), make=make)
    again = Cache(tmp_path).get("generator", torch.ones(3), make=make)
    assert make.calls == 1 and same(first, make()) and same(again, make())


def test_a_changed_input_gets_its_own_entry(tmp_path: Path) -> None:
    cache, make = Cache(tmp_path / "entries"), Maker()
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"first")
    for _ in range(2):
        cache.get(photo, "normal", make=make)
    photo.write_bytes(b"other")
    cache.get(photo, "normal", make=make)
    cache.get(photo, "depth", make=make)
    assert make.calls == 3
    photo.write_bytes(b"first")
    cache.get(photo, "normal", make=make)
    assert make.calls == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage", "other"])
def test_a_damaged_entry_is_rebuilt(damage: str, tmp_path: Path) -> None:
    cache, make = Cache(tmp_path), Maker()
    whole = cache.get("a", make=make)
    path = cache.path("a")
    data = path.read_bytes()
    cache.get("b", make=lambda: {"code": torch.zeros(1)})
    path.write_bytes({
        "cut": data[:-7],
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "empty": b"",
        "garbage": os.urandom(200),
        "other": cache.path("b").read_bytes()[:-1] + b"\1",
    }[damage])  # fmt: skip
    assert same(cache.get("a", make=make), whole) and make.calls == 2
    assert same(cache.get("a", make=make), whole) and make.calls == 2


def test_nothing_but_entries_is_left(tmp_path: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("out of memory")

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError):
        cache.get("a", make=fail)
    cache.get("b", make=Maker())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [cache.path("b")]


def test_a_folder_that_cannot_be_written_is_said_aloud(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make = Maker()
    with pytest.warns(UserWarning, match="cannot be written .*set ILORA_CACHE"):
        made = Cache(tmp_path / "file").get("a", make=make)
    assert same(made, make())


def test_the_default_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILORA_CACHE", str(tmp_path))
    assert Cache().directory == tmp_path
    monkeypatch.delenv("ILORA_CACHE")
    assert Cache().directory == Path.home() / ".cache/ilora"


def test_hashes_tell_contents_apart() -> None:
    zeros = torch.zeros(4)
    keys = [
        (1,), ("1",), (1.0,), (True,), (None,), (b"1",), ("a", "bc"), ("ab", "c"), (["a", "b"],), ("a", "b"), ([], "a"),
        (zeros,), (zeros.reshape(2, 2),), (zeros.int(),), (-zeros,), (zeros.bfloat16(),), ({"a": 1, "b": 2},),
        ({"a": 1}, {"b": 2}), ([["a"], "b"],), ([["a", "b"]],), (),
    ]  # fmt: skip
    assert len({content_hash(*key) for key in keys}) == len(keys)
    assert content_hash({"b": 2, "a": 1}) == content_hash({"a": 1, "b": 2})
    assert content_hash(torch.arange(6).reshape(2, 3).T) == content_hash(torch.tensor([[0, 3], [1, 4], [2, 5]]))


def test_a_hash_by_hand() -> None:
    import hashlib

    assert content_hash("a", 7) == hashlib.sha256(b'str 3:"a"int 1:7').hexdigest()


def test_what_has_no_content_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        content_hash(object())

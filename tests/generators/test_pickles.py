"""Pickles as data: what honest ones hold comes back, what hostile ones want does not happen."""

import collections
import io
import os
import pickle
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from ilora.generators import pickled, pickles
from ilora.generators.pickled import value
from ilora.generators.pickles import Name, Note, parse, read

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def through(content: object, protocol: int = 4) -> object:
    return parse(io.BytesIO(pickle.dumps(content, protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_comes_back(protocol: int) -> None:
    shared = [1, -2, 2**40, -(2**90), 3.5]
    content = {
        "a": shared,
        "b": (None, True, False),
        "c": {"d": shared, 7: "ü\n", 0.5: []},
        "e": ((), (1,), (1, 2), (1, 2, 3, 4)),
    }
    found = through(content, protocol)
    assert found == content
    assert found["a"] is found["c"]["d"]


def test_bytes_come_back() -> None:
    for protocol in PROTOCOLS:
        assert pickled._bytes(through(b"\x00\xff" * 300, protocol)) == b"\x00\xff" * 300


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back(dtype: torch.dtype) -> None:
    whole = torch.arange(24.0).reshape(4, 6).to(dtype)
    for tensor in (whole, whole.T, whole[1:, ::2], whole[:0], torch.tensor(1).to(dtype)):
        found = value(through(tensor))
        assert found.dtype == dtype and torch.equal(found, tensor)
    assert torch.equal(value(through(torch.nn.Parameter(torch.arange(3.0)))), torch.arange(3.0))


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_and_scalars_come_back(protocol: int) -> None:
    for array in (
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.float32([1, 2]).astype(">f4"),
    ):
        found = value(through(array, protocol))
        assert found.dtype == array.dtype.newbyteorder("=") and np.array_equal(found, array)
    for number in (np.float64(0.1), np.int64(-3), np.bool_(True)):
        assert value(through(number, protocol)) == number.item()


def test_objects_of_unknown_classes_are_notes() -> None:
    found = through(collections.Counter("aab"))
    assert isinstance(found, Note) and found.asks_for("collections.Counter")
    assert found.args == ({"a": 2, "b": 1},)


class Call:
    """Asks the reader to call something."""

    def __init__(self, function: object, *args: object) -> None:
        self.request = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.request


def hostile(trace: Path) -> dict[str, bytes]:
    """Pickles that would leave ``trace`` behind if anything in them were run."""
    touch = f"open({str(trace)!r}, 'w').close()"
    line = f"touch {trace}"
    nested = Call(getattr, Call(__import__, "os"), "system")
    state = {"a": Call(os.system, line)}
    return {
        "os.system": pickle.dumps(Call(os.system, line)),
        "eval": pickle.dumps(Call(eval, touch)),
        "exec": pickle.dumps([1, {"x": Call(exec, touch)}]),
        "a call of what a call gives": pickle.dumps(Call(Call, nested, line)),
        "in a state": pickle.dumps({"G_ema": state}),
        "GLOBAL and REDUCE": b"cos\nsystem\n(S'" + line.encode() + b"'\ntR.",
        "INST": b"(S'" + line.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + line.encode() + b"'\no.",
        "NEWOBJ": b"\x80\x02cos\nsystem\nS'" + line.encode() + b"'\n\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\nS'" + line.encode() + b"'\n\x85}\x92.",
        "BUILD with slots": b"\x80\x02cbuiltins\nlen\nN}S'__code__'\nI1\ns\x86b.",
        "a name with dots": b"\x80\x04\x8c\x08builtins\x8c\x0dexec.__call__\x93\x8c\x01x\x85R.",
    }


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_nothing_runs(name: str, tmp_path: Path) -> None:
    trace, before = tmp_path / "it ran", set(sys.modules)
    found = parse(io.BytesIO(hostile(trace)[name]))
    assert isinstance(found, (Note, Name, list, dict))
    assert value(found) is found
    assert not trace.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "misses what it works on|pickle exhausted"),
        (b"\x80\x04]", "exhausted"),
        (b"\x80\x04R.", "misses what it works on"),
        (b"\x80\x04t.", "expected a mark"),
        (b"(.", "expected a value, got a mark"),
        (b"\x80\x04K\x01K\x02a.", "misses what it works on"),
        (b"\x80\x04h\x07.", "misses what it works on"),
        (b"\x80\x02\x82\x01.", "expected the instructions of plain objects, got EXT1"),
        (b"\x80\x05\x97.", "got NEXT_BUFFER"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fx.", "expected 1152921504606846975 bytes"),  # says 2^60 bytes
        (b"\x80\x02L" + b"9" * 6000 + b"L\n.", "Exceeds the limit"),
        (b"\x80\x04K\x01K\x02\x93.", "expected the name of a class"),
    ],
)
def test_broken_and_lying_pickles_are_errors(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(io.BytesIO(data))


def test_bombs_stay_small() -> None:
    """A memory index of 2^31, lists of lists of lists, tuples nested 1,500 deep: as small as their files."""
    doubling = b"\x80\x04]\x94" + b"".join(b"]\x94(h%ch%ce" % (n, n) for n in range(60)) + b"."
    deep = b"\x80\x04)" + b"\x85" * 1_500 + b"."
    key = b"\x80\x04})" + b"\x85" * 1_500 + b"K\x01s."
    tracemalloc.start()
    assert parse(io.BytesIO(b"\x80\x04K\x01r\xff\xff\xff\x7f.")) == 1
    assert len(parse(io.BytesIO(doubling))) == 2
    assert isinstance(parse(io.BytesIO(deep)), tuple)
    assert parse(io.BytesIO(key)) == {}
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([1] * 100))
    monkeypatch.setattr(pickles, "INSTRUCTIONS", 50)
    with pytest.raises(ValueError, match=r"a\.pkl is not a whole and honest pickle.*at most 50 instructions"):
        read(path)
    monkeypatch.setattr(pickles, "LARGEST", 10)
    with pytest.raises(ValueError, match="must have at most 10 bytes, got"):
        read(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.pkl"):
        read(tmp_path / "absent.pkl")
    (tmp_path / "empty.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="not a whole and honest pickle"):
        read(tmp_path / "empty.pkl")


def tensor_note(storage: object, offset: object, size: object, stride: object) -> Note:
    real = through(torch.arange(6.0))
    return Note(real.of, (real.args[0] if storage is None else storage, offset, size, stride))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),  # beyond the end
        (4, (3,), (1,)),
        (0, (2**27, 2**27), (0, 0)),  # one number, seen 2^54 times
        (0, (100,), (0,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (2**80,), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0, ("6",), (1,)),
        (0, 6, 1),
        ("0", (2,), (1,)),
    ],
)
def test_a_tensor_stays_within_its_bytes(offset: object, size: object, stride: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        value(tensor_note(None, offset, size, stride))


def test_storages_that_lie_are_errors() -> None:
    honest = through(torch.arange(6.0)).args[0].args[0]
    for data in (
        b"",
        honest[:-1],
        honest.replace(b"FloatStorage", b"DoubleStorag"),
        b"PK\x03\x04",
        pickle.dumps(1) * 5,
    ):
        with pytest.raises(ValueError, match=r"expected|misses|newline|exhausted"):
            value(tensor_note(Note(through(torch.ones(1)).args[0].of, (data,)), 0, (1,), (1,)))
    with pytest.raises(ValueError, match="expected the bytes of a storage"):
        value(tensor_note(b"raw", 0, (1,), (1,)))


def test_arrays_that_lie_are_errors() -> None:
    honest = through(np.arange(3.0))
    version, _, dtype, order, data = honest.state
    for shape, kind in (
        ((4,), dtype),
        ((2**40, 2**40), dtype),
        ((3,), Note(dtype.of, ("O8",))),
        ((-3,), dtype),
        ((3,), None),
    ):
        with pytest.raises(ValueError, match="expected"):
            value(Note(honest.of, honest.args, (version, shape, kind, order, data)))
    with pytest.raises(ValueError, match="with other parts"):
        value(Note(honest.of, honest.args, None))


def test_a_module_that_holds_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MODULES", 100)
    loop = Note(None, state={"_modules": {}})
    loop.state["_modules"]["again"] = loop
    with pytest.raises(ValueError, match="at most 100 modules"):
        pickled.state_dict(loop)


def test_many_views_of_one_storage_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "TOTAL", 50)
    stored = through(torch.arange(6.0))
    with pytest.raises(ValueError, match=r"at most .* 50 numbers"):
        pickled.state_dict(Note(None, state={"_parameters": {str(n): stored for n in range(10)}}))

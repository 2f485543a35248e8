"""Pickles as plain data. A pickle is a program; here its instructions are followed by an interpreter that has no way to
import or to call anything: what the program would have called stays a note of what it asked for.

Python's own ``pickle.Unpickler`` with an allow-list still lets a file build any object graph, set attributes of
whatever the list lets through and ask for memory at will. This one knows numbers, words, bytes, lists, dictionaries and
notes.
"""

import io
import mmap
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST = 4 * 2**30  # of a file [bytes]; the largest published StyleGAN is below a tenth of it
INSTRUCTIONS = 4_000_000  # of a file; a StyleGAN-XL with its discriminator has a few hundred thousand
WORDS = 10_000  # longest name of a class or function [characters]

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = re.compile("(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|((SHORT_)?BIN)?(STRING|UNICODE|BYTES)8?|BYTEARRAY8")
_KEYS = (str, bytes, int, float, type(None))  # of dictionaries; bool is an int
_MARK = object()


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names: only its name, nothing is looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Note:
    """An object that the pickle asked to make: what it would have called, with what, and what it then put into it.

    Attributes:
        of: the class or function; None for one that is stored beside the pickle.
        args: of the call.
        state: handed to the object afterwards (``BUILD``): for most classes its attributes.
        items: list items that were appended.
        entries: dictionary entries that were set.
    """

    of: Any
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)

    def asks_for(self, name: str) -> bool:
        """Whether it is an object of the class, or a result of the function, of this full name."""
        return isinstance(self.of, Name) and str(self.of) == name


def read(path: Path) -> Any:
    """The content of a pickle file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, larger than ``LARGEST``, longer than ``INSTRUCTIONS``, or unlike any honest pickle.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected a pickle")
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{path} must have at most {LARGEST:,} bytes, got {size:,}; convert it where it was made")
    with path.open("rb") as file:
        try:
            # Mapped: a length that lies cannot ask for more memory than the file has.
            return parse(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise ValueError(
                f"{path} is not a whole and honest pickle, and nothing in it was run ({error}); download it again"
            ) from error


def parse(file: io.BytesIO | mmap.mmap) -> Any:
    """The content of one pickle; of a file that holds several, the one at its position.

    Raises:
        ValueError: damaged, too long, or with instructions that no pickle of plain objects has.
    """
    machine = _Machine()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            if count >= INSTRUCTIONS:
                raise ValueError(f"expected at most {INSTRUCTIONS:,} instructions, got more")
            machine.step(instruction.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"an instruction misses what it works on: {type(error).__name__} {error}") from error
    return machine.pop()


class _Machine:
    """The stack and the memory of a pickle. Its containers grow by what the file holds and no faster."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _STEPS:
            _STEPS[name](self, argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif _LITERALS.fullmatch(name):
            self.stack.append(argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"expected the instructions of plain objects, got {name}")

    def pop(self) -> Any:
        """The uppermost value."""
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("expected a value, got a mark")
        return value

    def since_mark(self) -> list[Any]:
        """All values above the last mark, which goes too."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise ValueError("expected a mark on the stack, got none")

    def drop(self) -> None:
        """Take the uppermost value away, be it a mark."""
        self.stack.pop()

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def keep(self, place: int) -> None:
        """Remember the uppermost value."""
        self.memo[int(place)] = self.stack[-1]

    def recall(self, place: int) -> None:
        """Put a remembered value on top."""
        self.stack.append(self.memo[int(place)])

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top, or to the list items of the object there."""
        target = self.stack[-1]
        (target if isinstance(target, list) else target.items).extend(values)

    def update(self, values: list[Any]) -> None:
        """Set keys and values in the dictionary on top, or in the object there; keys that are objects are left out."""
        target = self.stack[-1]
        entries = target if isinstance(target, dict) else target.entries
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, _KEYS):
                entries[key] = value

    def call(self, of: Any, args: Any) -> None:
        """Note a call instead of making it."""
        self.push(Note(of, args if isinstance(args, tuple) else (args,)))

    def build(self) -> None:
        """Note the state that an object is given; lists and dictionaries have none."""
        state = self.pop()
        if isinstance(self.stack[-1], Note):
            self.stack[-1].state = state

    def made_since_mark(self, of: Any = None) -> None:
        """Note a call of ``of``, or of the first value above the mark, with the values above it."""
        values = self.since_mark()
        self.call(of or values[0], tuple(values if of else values[1:]))


def _name(module: Any, name: Any) -> Name:
    if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < WORDS):
        raise ValueError("expected the name of a class or function, got something else")
    return Name(module, name)


def _forget(machine: _Machine) -> None:
    machine.since_mark()


def _dictionary(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push({})
    machine.update(values)


def _pair(machine: _Machine, make: Callable[[Any, Any], None]) -> None:
    second, first = machine.pop(), machine.pop()
    make(first, second)


def _keywords(machine: _Machine) -> None:
    words, args, of = machine.pop(), machine.pop(), machine.pop()
    machine.call(of, args)
    machine.stack[-1].entries.update({key: value for key, value in words.items() if isinstance(key, str)})


_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    "MARK": lambda m, _: m.push(_MARK),
    "POP": lambda m, _: m.drop(),
    "POP_MARK": lambda m, _: _forget(m),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.since_mark()),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "EMPTY_SET": lambda m, _: m.push([]),  # sets as lists: nothing that is read here is one
    "ADDITEMS": lambda m, _: m.extend(m.since_mark()),
    "FROZENSET": lambda m, _: m.push(m.since_mark()),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.push((m.pop(),)),
    "TUPLE2": lambda m, _: m.push((m.pop(), m.pop())[::-1]),
    "TUPLE3": lambda m, _: m.push((m.pop(), m.pop(), m.pop())[::-1]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: _dictionary(m),
    "SETITEM": lambda m, _: _pair(m, lambda key, value: m.update([key, value])),
    "SETITEMS": lambda m, _: m.update(m.since_mark()),
    "GET": lambda m, place: m.recall(place),
    "BINGET": lambda m, place: m.recall(place),
    "LONG_BINGET": lambda m, place: m.recall(place),
    "PUT": lambda m, place: m.keep(place),
    "BINPUT": lambda m, place: m.keep(place),
    "LONG_BINPUT": lambda m, place: m.keep(place),
    "MEMOIZE": lambda m, _: m.keep(len(m.memo)),
    "GLOBAL": lambda m, words: m.push(_name(*words.split(" ", 1))),
    "STACK_GLOBAL": lambda m, _: _pair(m, lambda module, name: m.push(_name(module, name))),
    "REDUCE": lambda m, _: _pair(m, m.call),
    "NEWOBJ": lambda m, _: _pair(m, m.call),
    "NEWOBJ_EX": lambda m, _: _keywords(m),
    "BUILD": lambda m, _: m.build(),
    "INST": lambda m, words: m.made_since_mark(_name(*words.split(" ", 1))),
    "OBJ": lambda m, _: m.made_since_mark(),
    "PERSID": lambda m, key: m.push(Note(None, (key,))),
    "BINPERSID": lambda m, _: m.push(Note(None, (m.pop(),))),
}

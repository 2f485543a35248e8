"""The intrinsics by name; each is one file, imported when it is first asked for."""

import difflib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilora.intrinsics.base import Intrinsic

_CLASSES = {
    "normal": "Normal",
    "depth": "Depth",
    "albedo": "Albedo",
    "shading": "Shading",
}
NAMES = tuple(_CLASSES)
ALL = "all"  # word for every one of them


def intrinsic(name: str) -> "Intrinsic":
    """The intrinsic of that name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    if name not in _CLASSES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMES)}"
        raise ValueError(f"intrinsic must be one of {', '.join(NAMES)}, got {name!r}; {hint}")
    return getattr(importlib.import_module(f"ilora.intrinsics.{name}"), _CLASSES[name])()


def chosen(words: str) -> list[str]:
    """Names of the intrinsics that ``all``, or names with commas between, stand for.

    Raises:
        ValueError: there is none of a name, or one is named twice.
    """
    names = list(NAMES) if words == ALL else [intrinsic(word.strip()).name for word in words.split(",")]
    if len(set(names)) < len(names):
        raise ValueError(f"each intrinsic must be named once, got {words!r}; leave the repetition out")
    return names


def __getattr__(name: str) -> Any:
    """``Intrinsic``, the protocol; imported late because it needs torch."""
    if name == "Intrinsic":
        return importlib.import_module("ilora.intrinsics.base").Intrinsic
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

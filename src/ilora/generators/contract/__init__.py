"""What every generator must do, whatever its family: checks that run on one with an intrinsic, and say what is missing.

``examine`` runs them by name (``ilora check-generator``), ``check`` on an object (``tests/test_contract.py``). A clause
is one function in ``clauses.py``.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ilora.config import Readout
from ilora.generators import construct
from ilora.generators.contract.case import Case
from ilora.generators.contract.clauses import CHECKS, LEARNING, Breach, Without, follows
from ilora.intrinsics import NAMES, intrinsic
from ilora.intrinsics.base import Intrinsic


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        about: what it looks at, in words; the intrinsic in brackets where it was run with one.
        passed: None where it does not apply.
        words: expected, got and what to do, where it failed; why, where it does not apply.
    """

    check: str
    about: str
    passed: bool | None
    words: str = ""

    def __str__(self) -> str:
        verdict = {True: "ok", False: "FAILED", None: "left out"}[self.passed]
        return f"{verdict:<9} {self.check}: {self.about}" + (f"\n          {self.words}" if self.words else "")


def examine(name: str, *, intrinsics: Sequence[str] = NAMES, device: str = "cpu") -> Iterator[Finding]:
    """Run the contract on the generator of that name, check after check.

    Args:
        name: what ``ilora.generators.load`` takes.
        intrinsics: with which the checks of learning run; the others run once.

    Raises:
        ValueError: no such generator or intrinsic.
    """
    kinds = [intrinsic(one) for one in intrinsics]
    generator = construct(name, device=device, dtype=torch.float32, readout=Readout())
    for kind in kinds:
        found = list(check(generator, kind, CHECKS if kind is kinds[0] else LEARNING))
        yield from found
        if not found[0].passed:
            return


def check(generator: Any, kind: Intrinsic, checks: Sequence[Callable[[Case], None]] | None = None) -> Iterator[Finding]:
    """Run the contract on a generator, which is left as it was; first of all, whether it has the protocol.

    Where it has not, or a record cannot be made, that is the only finding.
    """
    about = "attributes, methods, frozen weights"
    try:
        follows(generator)
        case = Case.of(generator, kind)
    except Exception as error:
        yield Finding("protocol", about, False, _words(error))
        return
    yield Finding("protocol", f"{about} ({kind.name})", True)
    for one in CHECKS if checks is None else checks:
        words = f"{(inspect.getdoc(one) or '').splitlines()[0].rstrip('.')} ({kind.name})"
        try:
            one(case)
            yield Finding(one.__name__, words, True)
        except Without as reason:
            yield Finding(one.__name__, words, None, str(reason))
        except Exception as error:
            yield Finding(one.__name__, words, False, _words(error))


def _words(error: Exception) -> str:
    """A breach in its own words; what else went wrong with its class and where."""
    return str(error) if isinstance(error, Breach) else f"expected no error, got {type(error).__name__}: {error}"

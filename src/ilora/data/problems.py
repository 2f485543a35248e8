"""What is wrong with a data set, one line a file, with what to do about it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHOWN = 20  # problems that a message lists


@dataclass(frozen=True)
class Problem:
    """One reason not to train on an example.

    Attributes:
        name: of the example.
        file: that is to blame, as its folder and name.
        what: is wrong with it.
        remedy: what to do.
    """

    name: str
    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.file}: {self.what}; {self.remedy}"


class Unusable(ValueError):
    """A file of an example that cannot be used; ``file``, ``what`` and ``remedy`` as in ``Problem``."""

    def __init__(self, file: Path, what: str, remedy: str) -> None:
        super().__init__(f"{file}: {what}; {remedy}")
        self.file, self.what, self.remedy = file, what, remedy


@contextmanager
def blaming(file: Path) -> Iterator[None]:
    """Turn a ``ValueError`` of the block ("what; remedy") into an ``Unusable`` that names the file."""
    try:
        yield
    except ValueError as error:
        what, _, remedy = str(error).removeprefix(str(file)).lstrip(": ").rpartition("; ")
        raise Unusable(file, what, remedy) from error


def listing(problems: Sequence[Problem]) -> str:
    """The problems, one a line, the first ``SHOWN`` of them."""
    more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "\n".join([*(str(problem) for problem in problems[:SHOWN]), *more])

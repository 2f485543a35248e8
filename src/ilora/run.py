"""The folder of one fit, written so that a kill at any moment leaves every file in it whole."""

import importlib.metadata
import json
import platform
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilora import tensors
from ilora.images import replacing

LIBRARIES = ("ilora", "torch", "numpy", "safetensors", "peft", "diffusers", "transformers", "accelerate")


@dataclass(frozen=True)
class Run:
    """The paths inside a run folder, the only thing that commands exchange.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Resolved ``FitConfig``, JSON."""
        return self.path / "config.json"

    @property
    def versions(self) -> Path:
        """Versions of Python and the libraries that the fit began with, JSON."""
        return self.path / "versions.json"

    @property
    def data(self) -> Path:
        """Data set, its content hash and the names of the labelled images used, JSON."""
        return self.path / "data.json"

    @property
    def log(self) -> Path:
        """One line a report: step, loss, lr, images a second, seconds; JSON lines."""
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Weights, moments, average and step that the fit goes on from, safetensors."""
        return self.path / "checkpoint.safetensors"

    @property
    def adapter(self) -> Path:
        """The result, safetensors; there once the fit is finished."""
        return self.path / "adapter.safetensors"

    @property
    def mean(self) -> Path:
        """``mean`` [c, h, w] of the training maps, ``seen`` [1, h, w], the share of them valid there; safetensors."""
        return self.path / "mean.safetensors"

    @property
    def sheet(self) -> Path:
        """Validation sheet: image, prediction, truth; PNG."""
        return self.path / "sheet.png"

    def control(self, name: str) -> "Run":
        """The run folder of a control that belongs to this fit, such as ``random-weights``."""
        return Run(self.path / "controls" / name)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write indented JSON atomically."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What ``write_json`` wrote.

    Raises:
        ValueError: the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON, got something else ({error}); restore it, or start anew") from error


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one line to a JSON-lines file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file, from which a line that a kill left half written is cut; none without it."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = []
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    whole = "".join(f"{json.dumps(row)}\n" for row in found)
    if whole != text:
        with replacing(path) as partial:
            partial.write_text(whole, encoding="utf-8")
    return found


def cut(path: Path, last: int) -> dict[str, Any]:
    """Drop the lines of a log beyond step ``last``, and a line that a kill left half written.

    Returns:
        The last line that stays; empty where there is none.
    """
    kept = [row for row in rows(path) if row["step"] <= last]
    with replacing(path) as partial:
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    return kept[-1] if kept else {}


def save_checkpoint(
    path: Path,
    step: int,
    parameters: dict[str, Tensor],
    *,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> None:
    """Write all that a fit needs to go on after ``step`` updates, atomically and as tensors only.

    Args:
        path: one safetensors file.
        step: updates done.
        parameters: weights that learn, in the order in which ``optimizer`` was given them.
        optimizer: its per-weight state is kept.
        average: averaged weights under the names of ``parameters``; may be empty.
    """
    names = list(parameters)
    values = {f"weight.{name}": value for name, value in parameters.items()}
    values |= {f"average.{name}": value for name, value in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        values |= {f"optimizer.{key}.{names[index]}": value for key, value in state.items()}
    tensors.write(path, {name: value.detach().cpu() for name, value in values.items()}, {"step": str(step)})


@torch.no_grad()
def load_checkpoint(
    path: Path, parameters: dict[str, Tensor], *, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> int:
    """Put a checkpoint back into what ``save_checkpoint`` was given, in place.

    Returns:
        Updates done; 0 where there is no checkpoint.

    Raises:
        ValueError: the checkpoint belongs to other weights.
    """
    if not path.is_file():
        return 0
    values, header = tensors.read(path)
    expected = {f"weight.{name}" for name in parameters} | {f"average.{name}" for name in average}
    found = {name for name in values if not name.startswith("optimizer.")}
    if expected != found:
        odd = sorted(expected ^ found)[0]
        raise ValueError(f"{path} must hold these {len(expected)} weights, got others, such as {odd}; start anew")
    for name, value in parameters.items():
        value.copy_(values[f"weight.{name}"])
    for name, value in average.items():
        value.copy_(values[f"average.{name}"])
    names = list(parameters)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in values.items():
        if key.startswith("optimizer."):
            _, kind, name = key.split(".", 2)
            state.setdefault(names.index(name), {})[kind] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(header["step"])


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a loop can end between two updates; the second one kills as usual.

    Outside the main thread signals cannot be caught and the event stays unset.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(_number: int, _frame: types.FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def say(line: str) -> None:
    """Tell the person at the terminal; results go to files, so this is stderr."""
    print(line, file=sys.stderr, flush=True)


def fail(failed: dict[str, str], word: str, reason: str) -> None:
    """Report one line about a word or a file that could not be used, now and in ``failed``."""
    failed[word] = " ".join(reason.replace(f"{word} ", "", 1).split())
    say(f"{word}: {failed[word]}")


@contextmanager
def progress(label: str, total: int, *, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A bar with the time left, where stderr is a terminal; silence elsewhere.

    Yields:
        ``tell(done, note)``.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)

"""Tasks over a pool of workers by Ray Data; a lost worker is started again, and its task with it."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ilora import cluster

RETRIES = 3  # of a task whose worker was lost, by fault of the machine or of the task

Act = Callable[[str], bytes]  # does one task


class Answer(NamedTuple):
    """What became of a task.

    Attributes:
        number: of the task.
        value: its result; empty where there is a problem.
        problem: why there is none; else empty.
    """

    number: int
    value: bytes
    problem: str


@dataclass(frozen=True)
class Share:
    """What of the cluster each worker holds.

    Attributes:
        workers: how many there are.
        threads: of torch in each. As many as a process without Ray has give the same bits as that.
        cpus: cores of the cluster; less than one where there are more workers than cores.
        gpus: likewise; 0 on a cluster without.
    """

    workers: int
    threads: int
    cpus: float
    gpus: float


def share(resources: dict[str, float], workers: int, *, device: str | None, threads: int) -> Share:
    """Divide a cluster among its workers.

    Args:
        resources: of the cluster, ``CPU`` and ``GPU``.
        device: that they were asked to use; GPUs are left alone for ``cpu``.
        threads: the most a worker may use.
    """
    cpus, gpus = resources.get("CPU", 1.0) / workers, resources.get("GPU", 0.0) / workers
    cpus, gpus = (float(int(each)) if each >= 1 else each for each in (cpus, gpus))
    gpus = 0.0 if device == "cpu" else min(gpus, 1.0)
    return Share(workers, int(max(1, min(threads, cpus))), min(float(threads), cpus), gpus)


def spread(
    tasks: Sequence[str], start: Callable[[], Act], *, address: str, workers: int, device: str | None
) -> Iterator[Answer]:
    """Let workers do tasks; answers come as they are ready, one a task.

    Args:
        tasks: words that ``start``'s result understands.
        start: called once in each worker, for what is loaded once; it is pickled, and so must import by itself.
        address: see ``ilora.cluster.joined``.
        workers: processes.
        device: that they will use.

    Raises:
        ConnectionError: no cluster at the address.
    """
    if not tasks:
        return
    waiting = set(range(len(tasks)))
    with cluster.joined(address), _settings():
        import ray

        each = share(dict(ray.cluster_resources()), workers, device=device, threads=torch.get_num_threads())
        for row in _answers(tasks, start, each):
            answer = Answer(row["number"], row["value"], row["problem"])
            if answer.number in waiting:
                waiting.remove(answer.number)
                yield answer
    for number in sorted(waiting):
        yield Answer(number, b"", f"its worker was lost {RETRIES + 1} times; is the memory enough?")


def _answers(tasks: Sequence[str], start: Callable[[], Act], each: Share) -> Iterable[dict[str, Any]]:
    """One row a task, from an actor pool whose blocks hold a single task, which is what a retry repeats."""
    import ray.data

    rows = ray.data.from_items(
        [{"number": number, "task": task} for number, task in enumerate(tasks)], override_num_blocks=len(tasks)
    )
    # One at a time: a task that waited behind one that kills its worker would be lost, and retried, as often as that.
    pool = ray.data.ActorPoolStrategy(size=min(each.workers, len(tasks)), max_tasks_in_flight_per_actor=1)
    with warnings.catch_warnings(action="ignore"):  # Ray 2.60 calls the last argument deprecated without another way
        done = rows.map_batches(
            _Worker,
            fn_constructor_args=(start, each.threads, os.getcwd()),
            batch_size=1,
            compute=pool,
            num_cpus=each.cpus,
            num_gpus=each.gpus,
            ray_remote_args_fn=_retried,
        )
    return done.iter_rows()


def _retried() -> dict[str, int]:
    """Actors are started again without end, tasks so often that one which kills its worker does not stop the rest."""
    return {"max_restarts": -1, "max_task_retries": RETRIES}


class _Worker:
    """One process of the pool."""

    def __init__(self, start: Callable[[], Act], threads: int, folder: str) -> None:
        with contextlib.suppress(OSError):  # where relative paths begin, if it is on this machine, too
            os.chdir(folder)
        torch.set_num_threads(threads)
        self._act = start()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        try:
            value, problem = self._act(str(batch["task"][0])), ""
        except Exception as error:  # one bad shard must not end a night's work; the report says which it was
            value, problem = b"", " ".join(f"{type(error).__name__}: {error}".split())
        return {"number": [int(batch["number"][0])], "value": [value], "problem": [problem]}


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Ray Data that says little and goes on after a task whose worker was lost too often."""
    import ray.data

    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    kept = context.enable_progress_bars, context.max_errored_blocks, log.level
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars, context.max_errored_blocks = kept[:2]
        log.setLevel(kept[2])

"""Making the points of a study on Ray: several a machine, on many machines that share the study's folder."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from ilora import cluster
from ilora.studies.plan import Work
from ilora.studies.work import Executor, Tell, attempt

CORES = 2  # of a task, where this process has as many; the bits of a sum depend on how many share it


def executor(address: str) -> Executor:
    """Points as Ray tasks, at most ``CORES`` CPU cores each, and one GPU where the cluster has any.

    Args:
        address: ``auto`` for the cluster that this machine belongs to, or for one of its own where there is none;
            see ``ilora.cluster.joined``. All machines must see ``--out`` under the same path; relative paths and
            ``MODULE:CLASS`` are looked up in this process's working folder, on machines that have it.

    Raises:
        ImportError: Ray is not installed.
    """
    cluster.need()
    return partial(_run, address)


def _run(address: str, works: Sequence[Work], tell: Tell) -> None:
    """See ``Executor``. A machine that is lost counts as a failure; its points are made once more."""
    if not works:
        return
    with cluster.joined(address):
        _spread(works, tell)


def _spread(works: Sequence[Work], tell: Tell) -> None:
    """The points as tasks of the cluster that was joined."""
    import ray

    threads = min(CORES, torch.get_num_threads())
    gpus = int(ray.cluster_resources().get("GPU", 0) >= 1 and works[0].evaluation.device != "cpu")
    task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=1)(_attempt)
    waiting = {task.remote(_anywhere(work), threads, os.getcwd()): work for work in works}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        try:
            problem = ray.get(done)
        except ray.exceptions.RayError as error:
            problem = f"{type(error).__name__}: {error}"
        tell(waiting.pop(done), problem)


def _attempt(work: Work, threads: int, folder: str) -> str:
    """``attempt`` with so many threads, in ``folder`` where this machine has it: names mean what they mean there.

    As many threads as the study's own process has give the same bits as that.
    """
    torch.set_num_threads(threads)
    if os.path.isdir(folder):  # where names that need it are absent, the point fails and says which
        os.chdir(folder)
    return attempt(work)


def _anywhere(work: Work) -> Work:
    """The same with an absolute path, which does not depend on a machine's working folder."""
    return replace(work, place=work.place.absolute())

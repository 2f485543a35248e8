"""Making the points of a study: fit, evaluate, try again once; in this process, one after the other."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from ilora.evaluate import evaluate
from ilora.fit import fit
from ilora.run import say
from ilora.studies.plan import Work

ATTEMPTS = 2

Tell = Callable[[Work, str], None]  # a point that is through, and what went wrong with it, or nothing


@runtime_checkable
class Executor(Protocol):
    """Whoever makes the points. The same points give the same files, wherever they are made."""

    def __call__(self, works: Sequence[Work], tell: Tell) -> None:
        """Make all points and tell of each as it ends; a failed one keeps no other from being made."""
        ...


def local(works: Sequence[Work], tell: Tell) -> None:
    """In this process, in the given order.

    Raises:
        KeyboardInterrupt: Ctrl-C; the fit has saved what was done.
    """
    for work in works:
        tell(work, attempt(work))


def attempt(work: Work) -> str:
    """Make one point, once more where it fails.

    Returns:
        What went wrong the last time; empty where the point is finished.
    """
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            make(work)
            return ""
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            say(f"{work.place.name}: {problem}")
    return problem


def make(work: Work) -> None:
    """Fit and evaluate one point; what is finished of it is not done again."""
    if work.result.is_file():
        return
    run = fit(work.fit, work.run.path, resume=True, on_problem="skip", device=work.evaluation.device)
    evaluate(run, work.fit.data, split=work.split, json=work.result, config=work.evaluation)

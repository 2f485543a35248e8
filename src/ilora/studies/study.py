"""From a question to its page: grid, fits, evaluations, answer; what is finished is never done again."""

from collections.abc import Sequence
from pathlib import Path

from ilora import checks
from ilora.report import number
from ilora.run import say
from ilora.studies import question
from ilora.studies.answer import Question
from ilora.studies.cells import cells, outcome
from ilora.studies.cost import Clock
from ilora.studies.page import save
from ilora.studies.plan import Ask, Point, StudyConfig, Work, points, works
from ilora.studies.work import Executor, local

TIMES = "step-times.json"  # in the study's folder


def study(
    name: str,
    out: Path | str,
    *,
    config: StudyConfig | None = None,
    ray: str | None = None,
    dry_run: bool = False,
) -> Path:
    """Answer a question. Stopped at any moment and run again, it goes on; studies that share ``out`` share points.

    Args:
        name: of the question; see ``ilora.studies.NAMES``.
        out: folder for the points (``points/``) and the page with its files.
        config: default: ``StudyConfig()``.
        ray: make the points on Ray: ``auto``, or an address; None: in this process.
        dry_run: print the grid and what it will cost, and write nothing.

    Returns:
        The page; with ``dry_run`` the folder.

    Raises:
        ValueError: an unknown question, or one that cannot be asked about these generators.
        ImportError: Ray or matplotlib is needed and missing.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    asked, config, out = question(name), (config or StudyConfig()).resolved(), Path(out).expanduser()
    if config.checkpoints and not asked.of_checkpoints:
        raise ValueError(f"{name} asks about generators, got checkpoints {config.checkpoints}; give them as generators")
    if config.generators and asked.of_checkpoints:
        raise ValueError(
            f"{name} asks about checkpoints, got generators {config.generators}; give them with --checkpoints"
        )
    clock = Clock(None if dry_run else out / TIMES, config.device)
    ask = Ask(config, out if dry_run else checks.output(out), clock, dry_run)
    grid = points(asked.points(ask), config.seeds)
    todo = works(grid, config, out)
    if dry_run:
        _tell(asked, grid, todo, clock)
        return out
    problems = _make(todo, _executor(ray))
    outcomes = [outcome(point, work, problems.get(work.result, "")) for point, work in zip(grid, todo, strict=True)]
    pooled = cells(outcomes)
    answer = asked.answer(ask, pooled)
    page = save(asked, config, out=out, outcomes=outcomes, cells=pooled, answer=answer)
    print(f"{answer.verdict}\npage: {page}")
    return page


def _executor(ray: str | None) -> Executor:
    """This process, or Ray."""
    if ray is None:
        return local
    from ilora.studies.on_ray import executor

    return executor(ray)


def _make(todo: Sequence[Work], executor: Executor) -> dict[Path, str]:
    """Make what is missing, each once.

    Returns:
        What went wrong, by the file that is missing therefore.
    """
    missing = list({work.result: work for work in todo if not work.result.is_file()}.values())
    problems: dict[Path, str] = {}
    say(f"{len({work.result for work in todo})} points, {len(missing)} to make")

    def tell(work: Work, problem: str) -> None:
        problems[work.result] = problem
        say(f"{len(problems)}/{len(missing)} {work.place.name}: {problem or 'done'}")

    first = {work.place: work for work in reversed(missing)}  # points may share a fit, which one alone shall make
    executor([work for work in missing if first[work.place] is work], tell)
    executor([work for work in missing if first[work.place] is not work], tell)
    return {path: problem for path, problem in problems.items() if problem}


def _tell(asked: Question, grid: Sequence[Point], todo: Sequence[Work], clock: Clock) -> None:
    """Print the grid, point by point, and its cost."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=asked.asks, box=box.SIMPLE_HEAD)
    for heading in ("generator", "intrinsic", "series", "at", "seed", "labels", "updates", "minutes", "folder"):
        table.add_column(heading, justify="right" if heading in ("labels", "updates", "minutes") else "left")
    missing: dict[Path, Work] = {}
    for point, work in zip(grid, todo, strict=True):
        fit, state = point.fit, "finished"
        if work.result in missing:
            state = "shared"
        elif not work.result.is_file():
            missing[work.result] = work
            state = number(clock.minutes([fit], _images(work, clock), codes=False))
        counts = (str(fit.seed), str(fit.labels or "all"), "–" if fit.method == "ridge" else str(fit.steps))
        table.add_row(Path(fit.generator).name, fit.intrinsic, point.series, point.at, *counts, state, work.place.name)
    Console(width=160).print(table)
    images = max((_images(work, clock) for work in missing.values()), default=0)
    total = number(clock.minutes({work.place: work.fit for work in missing.values()}.values(), images))
    print(
        f"{len(grid)} points, {len(missing)} to make: about {total} minutes in one process on this machine, from two "
        "updates of each kind of fit; nothing was written"
    )


def _images(work: Work, clock: Clock) -> int:
    """Pictures that a point is evaluated on."""
    there = clock.images(work.fit, work.split)
    return there if work.evaluation.images is None else min(there, work.evaluation.images)

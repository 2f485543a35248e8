"""Evaluation by Ray's workers: the groups of the plain command, judged elsewhere, so that the numbers are the same."""

import json as plain
import shutil
from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from ilora import checks, cluster
from ilora import evaluate as here
from ilora.data.cache import Cache, content_hash
from ilora.evaluate import Bench, EvaluateConfig, note
from ilora.evaluation import Evaluation
from ilora.predict import grouped
from ilora.protocols import DEFAULT, Protocol, Tally, Verdict
from ilora.protocols.words import facts
from ilora.run import progress
from ilora.scale.bulk import Crew
from ilora.scale.pool import Act, spread

APART = "/"  # between the words that name a tensor of a verdict


def evaluate(
    adapter: str | Path,
    data: str = "rooms",
    *,
    protocol: str | Protocol = DEFAULT,
    split: str = "test",
    json: str | Path | None = None,
    config: EvaluateConfig | None = None,
    crew: Crew | None = None,
    **files: str | Path | None,
) -> Evaluation:
    """``ilora.evaluate.evaluate`` with the painting and judging done by Ray's workers; see there.

    Examples are painted together in the same groups, so on the same kind of device with as many threads the numbers
    are the same to the bit. With ``json``, finished groups are kept beside it until it is written, and a call that was
    stopped goes on from them.

    Args:
        files: ``html`` and ``table``.
        crew: who works; default: one worker on this machine. All machines must see run and data under the same path.

    Raises:
        ValueError: as there, or a group could not be judged.
        ImportError: Ray or pyarrow is missing.
        ConnectionError: no cluster at the address.
    """
    cluster.need("pyarrow", "pandas")
    crew, kept = crew or Crew(), None if json is None else Path(json).expanduser().absolute().with_suffix(".groups")
    checks.positive("workers", crew.workers)
    asked = {"adapter": adapter, "data": data, "protocol": protocol, "split": split}
    tally = partial(_tally, asked=asked, crew=crew, kept=kept)
    found = here.evaluate(adapter, data, protocol=protocol, split=split, json=json, config=config, tally=tally, **files)
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
    return found


def _tally(
    bench: Bench, config: EvaluateConfig, *, asked: dict[str, Any], crew: Crew, kept: Path | None
) -> dict[str, Tally]:
    """See ``ilora.evaluate.in_process``."""
    sizes = ((place, example.image.shape) for place, example in bench.items())
    groups = [[place for place, _ in group] for group in grouped(sizes, key=itemgetter(1), batch=config.batch)]
    tallies, done = {method: Tally(bench.count) for method in bench.painters}, 0
    begin = partial(start, asked, config.replace(controls=False), kept, _identity(bench, config, asked))
    answers = spread(
        [plain.dumps(group) for group in groups],
        begin,
        address=crew.address,
        workers=crew.workers,
        device=config.device,
    )
    with progress("evaluate", bench.count) as tell:
        for answer in answers:
            group = groups[answer.number]
            if answer.problem:
                names = ", ".join(bench.examples.names[place] for place in group)
                raise ValueError(f"every example must be judged, got a failure for {names}: {answer.problem}")
            note(tallies, group, unpacked(load(answer.value)))
            done += len(group)
            tell(done, "")
    return tallies


def start(asked: dict[str, Any], config: EvaluateConfig, kept: Path | None, identity: str) -> Act:
    """What a worker does with groups of places; the run is loaded before the first one that is not kept."""
    loaded: list[Bench] = []

    def judge(places: Sequence[int]) -> dict[str, Tensor]:
        if not loaded:
            loaded.append(here.prepare(asked["adapter"], asked["data"], protocol=asked["protocol"],
                                       split=asked["split"], config=config))  # fmt: skip
        return packed(loaded[0].judge([loaded[0].examples[place] for place in places]))

    def act(task: str) -> bytes:
        places = plain.loads(task)
        made = partial(judge, places)
        return save(made() if kept is None else Cache(kept).get(identity, places, make=made))

    return act


def packed(verdicts: dict[str, Verdict]) -> dict[str, Tensor]:
    """Verdicts by method as tensors by name."""
    flat: dict[str, Tensor] = {}
    for method, verdict in verdicts.items():
        flat |= {APART.join((method, "scores", name)): values for name, values in verdict.scores.items()}
        flat[APART.join((method, "pixels"))] = verdict.pixels
        if verdict.angles is not None:
            flat[APART.join((method, "angles"))] = verdict.angles
    return {name: values.contiguous() for name, values in flat.items()}


def unpacked(flat: dict[str, Tensor]) -> dict[str, Verdict]:
    """What ``packed`` was given."""
    scores: dict[str, dict[str, Tensor]] = {}
    for name, values in flat.items():
        method, part, *metric = name.split(APART)
        if part == "scores":
            scores.setdefault(method, {})[APART.join(metric)] = values
    return {
        method: Verdict(found, flat[APART.join((method, "pixels"))], flat.get(APART.join((method, "angles"))))
        for method, found in scores.items()
    }


def _identity(bench: Bench, config: EvaluateConfig, asked: dict[str, Any]) -> str:
    """Hash of everything but the places that a verdict depends on."""
    path = Path(asked["adapter"]).expanduser()
    weights = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    return content_hash(
        weights, bench.predictor.generator.fingerprint, bench.examples.fingerprint,
        plain.dumps(facts(bench.protocol, bench.kind.name), default=str), bench.protocol.name, list(bench.painters),
        config.mirror,
    )  # fmt: skip

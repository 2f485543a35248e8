"""What is the adapter's share? The same labels and the same time for everything that one would do instead."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ilora.adapters.probes import DECODER, Probed
from ilora.config import FitConfig
from ilora.generators import load
from ilora.ops.statistics import Ratio
from ilora.report import Table
from ilora.studies.answer import COMMON, Answer, Figure, common, plain, words
from ilora.studies.cells import Cell, compared, only
from ilora.studies.figures import Bar, bars
from ilora.studies.plan import QUICK_STEPS, Ask, Point
from ilora.studies.sweep import RANDOM, pairs, unit_of

ADAPTER = "adapter"
LABELS, TIME = "equal labels", "equal time"
NETWORK = "network"  # whose activations a probe reads, unless it reads the decoder's
LEARNT: dict[str, dict[str, Any]] = {
    ADAPTER: {},
    RANDOM: {"random_weights": True},
    "probe of the network, trained": {"method": "head", "targets": NETWORK},
    "full fine-tune": {"method": "full"},
    "from scratch": {"method": "scratch"},
}
SOLVED = {
    "probe of the network, ridge": {"method": "ridge", "targets": NETWORK},
    "probe of the decoder, ridge": {"method": "ridge", "targets": DECODER},
}
CAPTION = (
    "Equal labels: as many updates as the adapter. Equal time: as many updates as fit into the time of the adapter's, "
    "by measured step times."
)
GIVEN = {"untouched": "untouched generator", "mean_map": "mean training map", "codec_ceiling": "codec ceiling"}


class Controls:
    """See ``ilora.studies.answer.Question``."""

    name = "controls"
    of_checkpoints = False
    asks = "What is the adapter's own share?"
    shows = (
        "The adapter beside what one would do instead with the same labels: the same fit on random weights, linear "
        "probes of the frozen network and of the frozen decoder, all weights fine-tuned, and all weights from scratch. "
        "Once with the same number of updates, once with the same time."
    )

    def points(self, ask: Ask) -> list[Point]:
        """Every control twice; solved probes and the adapter itself once."""
        grid = []
        for generator in ask.generators():
            for kind in ask.intrinsics():
                own = ask.fit(generator, kind, steps=QUICK_STEPS)
                for name, fields in LEARNT.items():
                    grid.append(Point(name, LABELS, ask.fit(generator, kind, steps=QUICK_STEPS, **fields)))
                for name, fields in SOLVED.items():
                    if fields["targets"] != DECODER or _has_decoder(generator):
                        grid.append(Point(name, LABELS, ask.fit(generator, kind, steps=QUICK_STEPS, **fields)))
                for name, fields in LEARNT.items():
                    if name not in (ADAPTER, RANDOM):  # random weights take the adapter's time for its updates
                        fit = ask.fit(generator, kind, steps=QUICK_STEPS, **fields)
                        grid.append(Point(name, TIME, _timed(ask, own, fit)))
        return grid

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """Ratios of the adapter's error to every control's."""
        rows, findings, figures, sentences = [], {}, [], []
        for generator, kind in pairs(cells):
            group = only(cells, generator=generator, intrinsic=kind)
            mine = only(group, series=ADAPTER)[0]
            shares = {(cell.series, cell.at): compared(mine, cell) for cell in group if cell is not mine}
            rows += [_row(cell, mine) for cell in group]
            for method, name in GIVEN.items():
                share = compared(mine, mine, method=method)
                rows.append((kind, generator, name, "–", words(share), words(mine.error(method)), "–", "–", "–"))
                shares[name, "–"] = share
            findings[f"{generator} {kind}"] = {f"adapter ÷ {a}, {b}": plain(share) for (a, b), share in shares.items()}
            known = {f"{a} ({b})": share for (a, b), share in shares.items() if a not in GIVEN.values()}
            sentences.append(f"{kind} of {generator}: {_sentence(known) if mine.runs else 'not measured.'}")
            figures.append(_figure(group, mine, name=f"{Path(generator).name}-{kind}" if figures else ""))
        header = ("intrinsic", "generator", "what learns", "at", "adapter ÷ it [95 %]", *COMMON)
        return Answer(" ".join(sentences), Table(header, tuple(rows), CAPTION), tuple(figures), findings)


def _sentence(known: dict[str, Ratio]) -> str:
    """Whom the adapter beats, who beats it, and who failed."""
    beaten = [name for name, share in known.items() if share.high < 1]
    ahead = [name for name, share in known.items() if share.low > 1]
    alike = [name for name, share in known.items() if share.low <= 1 <= share.high]
    lost = [name for name, share in known.items() if math.isnan(share.value)]
    failed = f"; not measured: {', '.join(lost)}" if lost else ""
    return (
        f"the adapter is better than {', '.join(beaten) or 'none'}; worse than {', '.join(ahead) or 'none'}; no clear "
        f"difference from {', '.join(alike) or 'none'}{failed}."
    )


def _row(cell: Cell, mine: Cell) -> tuple[str, ...]:
    share = "" if cell is mine else words(compared(mine, cell))
    at = f"{cell.at}, {cell.fit.steps} updates" if cell.fit.method != "ridge" else cell.at
    return (cell.fit.intrinsic, cell.fit.generator, cell.series, at, share, *common(cell))


def _figure(group: Sequence[Cell], mine: Cell, *, name: str) -> Figure:
    """Bars of all errors, and of what needs no learning."""
    marks = [(f"{cell.series}, {cell.at}", cell.at, cell.error()) for cell in group]
    marks += [(words, "given", mine.error(method)) for method, words in GIVEN.items()]
    shown = [Bar(label, kind, error.mean, error.low, error.high) for label, kind, error in marks if error.count]
    drawing = bars(shown, x=f"{mine.metric}{unit_of(mine.metric)}", title=f"{mine.fit.intrinsic}, {mine.fit.generator}")
    return Figure(name, drawing, "Error with its 95 % interval; lower is better.")


def _timed(ask: Ask, own: FitConfig, other: FitConfig) -> FitConfig:
    """Another fit with as many updates as fit into the time of the adapter's.

    Of fewer updates the warm-up takes as large a part; of more it takes no longer.
    """
    steps = max(1, round(ask.clock.fit(own) / ask.clock.times(other).update(other)))
    return other.replace(steps=steps, warmup=round(min(1, steps / other.steps) * other.warmup))


@lru_cache
def _has_decoder(generator: str) -> bool:
    """Whether there are decoder activations that a probe could read."""
    try:
        return bool(Probed(load(generator), DECODER).factor)
    except (ValueError, OSError, ImportError):
        return False

"""Where does a generator know it? Adapters on one block, or one type of layer, at a time."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from ilora.adapters.lora import ADAPTABLE
from ilora.adapters.probes import stages
from ilora.generators import load
from ilora.report import Table
from ilora.studies.answer import COMMON, Answer, Figure, common, words
from ilora.studies.cells import Cell, compared, only
from ilora.studies.figures import Bar, bars, heat
from ilora.studies.plan import Ask, Point
from ilora.studies.sweep import RANDOM, finished, lowest, pairs, unit_of

STEPS = 30  # updates of a quick fit: there are many
TIMES, QUICK_TIMES = (0, 30, 200, 500, 999), (30, 999)
TYPES = "layer type"


class Layers:
    """See ``ilora.studies.answer.Question``."""

    name = "layers"
    of_checkpoints = False
    asks = "Where in the network does it know?"
    shows = (
        "The adapter on one block of the network at a time, from the first to the last that the picture passes, and "
        "for generators with time steps at several of them; then on one type of layer at a time over the whole network."
    )

    def points(self, ask: Ask) -> list[Point]:
        """Blocks by time steps, layer types, and the default and random weights beside them."""
        grid = []
        for generator in ask.generators():
            seen = anatomy(generator)
            for kind in ask.intrinsics():
                base = ask.fit(generator, kind, steps=STEPS)
                times = (QUICK_TIMES if ask.config.quick else TIMES) if seen.timed else (base.timestep,)
                for block in seen.blocks:
                    inside = rf"{re.escape(block)}(\..*)?"
                    grid += [Point(block, str(t), base.replace(targets=inside, timestep=t)) for t in times]
                grid += [Point(TYPES, name, base.replace(targets=name)) for name in seen.types]
                grid.append(Point("default", "default", base))
                grid.append(Point(RANDOM, "default", base.replace(random_weights=True)))
        return grid

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """The best block and time step, and how far it is from the whole network's adapter."""
        rows, findings, figures, sentences = [], {}, [], []
        for generator, kind in pairs(cells):
            group = only(cells, generator=generator, intrinsic=kind)
            whole = only(group, series="default")[0]
            rows += [(kind, generator, c.series, c.at, words(compared(c, whole)), *common(c)) for c in group]
            blocks = [cell for cell in group if cell.series not in (TYPES, "default", RANDOM)]
            best = lowest(blocks)
            name = f"-{Path(generator).name}-{kind}" if figures else ""
            figures += _figures(blocks, group, whole, name=name)
            if best is None or not whole.runs:
                sentences.append(f"{kind} of {generator}: not measured.")
                continue
            share = compared(best, whole)
            findings[f"{generator} {kind}"] = {"block": best.series, "timestep": best.at, "÷ default": share.value}
            sentences.append(
                f"{kind} of {generator}: an adapter on {best.series} alone (time step {best.at}) comes closest, with "
                f"{words(share)} times the error of the default one."
            )
        header = ("intrinsic", "generator", "adapter on", "time step or type", "÷ default [95 %]", *COMMON)
        return Answer(" ".join(sentences), Table(header, tuple(rows), "Lower is better."), tuple(figures), findings)


def _figures(blocks: Sequence[Cell], group: Sequence[Cell], whole: Cell, *, name: str) -> list[Figure]:
    """The heat map over depth and time, and bars of the layer types."""
    rows = list(dict.fromkeys(cell.series for cell in blocks))
    columns = list(dict.fromkeys(cell.at for cell in blocks))
    at = {(cell.series, cell.at): cell.error().mean if cell.runs else math.nan for cell in blocks}
    label = f"{whole.fit.intrinsic}, {whole.fit.generator}"
    unit = f"{whole.metric}{unit_of(whole.metric)}"
    values = [[at.get((row, column), math.nan) for column in columns] for row in rows]
    found = []
    if any(math.isfinite(value) for row in values for value in row):
        drawing = heat(values, rows=rows, columns=columns, x="time step of 1000", y="block, first to last", unit=unit)
        found.append(Figure(name.lstrip("-"), drawing, f"{label}: error of an adapter on one block alone."))
    others = [cell for cell in group if cell.series in (TYPES, "default", RANDOM)]
    marks = [Bar(cell.at if cell.series == TYPES else cell.series, cell.series, e.mean, e.low, e.high)
             for cell in finished(others) if (e := cell.error())]  # fmt: skip
    drawing = bars(marks, x=unit, title=label)
    found.append(Figure(f"types{name}", drawing, "Adapters on one type of layer over the whole network."))
    return found


class Anatomy:
    """What can be adapted by itself.

    Attributes:
        blocks: names of the network's stages with layers to adapt, in the order in which a picture passes them.
        types: names of the generator's sets of layers.
        timed: whether the network's answer depends on a time step.
    """

    def __init__(self, blocks: list[str], types: list[str], timed: bool) -> None:
        self.blocks, self.types, self.timed = blocks, types, timed


@lru_cache
@torch.no_grad()
def anatomy(name: str) -> Anatomy:
    """Look into a generator."""
    generator = load(name)
    side = generator.resolution
    code = generator.encode(torch.zeros(1, 3, side, side))
    network = generator.network
    order = stages(network, lambda: generator.forward(code))
    blocks = [b for b in order if any(isinstance(m, ADAPTABLE) for m in network.get_submodule(b).modules())]
    painted = []
    for time in (0, 999):
        generator.readout = type(generator.readout)(timestep=time)
        painted.append(generator.forward(code))
    return Anatomy(blocks, list(generator.targets), not torch.equal(*painted))

"""Which intrinsics does a generator know?"""

from collections.abc import Sequence

from ilora.intrinsics import NAMES
from ilora.report import Section, Table, number
from ilora.studies.answer import COMMON, GOOD, MEDIUM, RULE, Answer, Figure, common, plain, verdict, words
from ilora.studies.cells import Cell, Position, compared, only, position
from ilora.studies.figures import Bar, bars
from ilora.studies.plan import QUICK_STEPS, Ask, Point
from ilora.studies.sweep import RANDOM, pairs

# Project page of Intrinsic LoRA (arXiv 2311.17137): their generators, labels and pictures, judged by eye.
PAPER = (
    ("VQGAN (FFHQ)", "~", "~", "✓", "✓"),
    ("StyleGAN2 (FFHQ)", "✓", "~", "✓", "✓"),
    ("StyleGAN2 (LSUN bedroom)", "✓", "✓", "✓", "✓"),
    ("StyleGAN-XL (FFHQ)", "✓", "~", "✓", "✓"),
    ("StyleGAN-XL (ImageNet)", "✗", "✗", "✗", "✗"),
    ("Stable Diffusion U-Net, single step", "✓", "✓", "✓", "✓"),
    ("Stable Diffusion augmented, multi-step", "✓", "✓", "✓", "✓"),
)


class Intrinsics:
    """See ``ilora.studies.answer.Question``."""

    name = "intrinsics"
    of_checkpoints = False
    asks = "Which intrinsics does each generator know?"
    shows = f"Where the adapter's error lies between a blind answer and what the codec allows: {RULE}"

    def points(self, ask: Ask) -> list[Point]:
        """An adapter and its control for every generator and intrinsic."""
        grid = []
        for generator in ask.generators(across=True):
            for kind in ask.intrinsics(quick=len(NAMES)):
                grid.append(Point("adapter", kind, ask.fit(generator, kind, steps=QUICK_STEPS)))
                grid.append(Point(RANDOM, kind, ask.fit(generator, kind, steps=QUICK_STEPS, random_weights=True)))
        return grid

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """A verdict for each generator and intrinsic, beside the paper's."""
        places: dict[tuple[str, str], Position] = {}
        findings, rows, marks = {}, [], []
        for generator, kind in pairs(cells):
            mine, control = (next(iter(only(cells, series=series, generator=generator, intrinsic=kind)), None)
                             for series in ("adapter", RANDOM))  # fmt: skip
            where = places[generator, kind] = position(mine, control)
            share = compared(mine, control)
            findings[f"{generator} {kind}"] = {
                "verdict": verdict(where),
                "position": plain(where),
                "adapter ÷ random weights": plain(share),
            }
            random, mean, ceiling = control.error(), mine.error("mean_map"), mine.error("codec_ceiling")
            bounds = (words(random), number(mean.mean), number(ceiling.mean))
            cell = (generator, kind, verdict(where), words(where), words(share), *bounds, *common(mine))
            rows.append(cell)
            marks.append(Bar(f"{kind}, {generator}", generator, where.value, where.low, where.high))
        header = ("generator", "intrinsic", "verdict", "position [95 %]", "÷ random [95 %]", "random weights",
                  "mean map", "codec ceiling", *COMMON)  # fmt: skip
        axis = "position between a blind answer (0) and the codec ceiling (1)"
        lines = {"✓ beyond": GOOD, "~ beyond": MEDIUM}
        figure = Figure("", bars(marks, x=axis, lines=lines), "Each bar with its 95 % interval.")
        return Answer(_sentence(places), Table(header, tuple(rows), RULE), (figure,), findings, (_paper(places),))


def _sentence(places: dict[tuple[str, str], Position]) -> str:
    """One clause a generator."""
    clauses = []
    for generator in dict.fromkeys(generator for generator, _ in places):
        marks = [f"{kind} {verdict(where)}" for (name, kind), where in places.items() if name == generator]
        clauses.append(f"{generator}: {', '.join(marks)}.")
    return " ".join(clauses)


def _paper(places: dict[tuple[str, str], Position]) -> Section:
    """Our verdicts in the form of the paper's table, and the paper's."""
    rows = []
    for generator in dict.fromkeys(generator for generator, _ in places):
        marks = (verdict(places[generator, kind]) if (generator, kind) in places else "" for kind in NAMES)
        rows.append((f"{generator} (here)", *marks))
    table = Table(("generator", *NAMES), (*rows, *PAPER), strong=frozenset(range(len(rows))))
    text = (
        "Intrinsic LoRA's project page, arXiv 2311.17137, judged by its authors on other generators, labels and "
        "pictures; ours by the rule above."
    )
    return Section("Beside the paper's table", text, (table,))

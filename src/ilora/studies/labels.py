"""How few labels does it take?"""

from collections.abc import Sequence
from dataclasses import replace

from ilora.studies.answer import Answer
from ilora.studies.cells import Cell
from ilora.studies.cost import labels
from ilora.studies.plan import Ask, Point
from ilora.studies.sweep import Sweep, label_answer

SWEEP = Sweep("labels", "labelled images", (8, 16, 25, 50, 100, 250), (8, 25, 100), control=True)


class Labels:
    """See ``ilora.studies.answer.Question``."""

    name = "labels"
    of_checkpoints = False
    asks = "How few labels does it take?"
    shows = (
        "The same fit with 8 to 250 labelled images, with our recipe and the published one, and ours on random "
        "weights. What random weights reach comes from the labels; what lies below it comes from the generator."
    )

    def points(self, ask: Ask) -> list[Point]:
        """Both presets and random weights at every number of labels that the data has of all the intrinsics."""
        there = min(labels(ask.fit("", kind, steps=1, labels=None)) for kind in ask.intrinsics())
        values = SWEEP.quick if ask.config.quick else SWEEP.values
        few = tuple(value for value in values if value <= there) or (there,)
        return replace(SWEEP, values=few, quick=few).points(ask)

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """The fewest labels with which ``default`` is as good as ``paper`` with the most."""
        return label_answer(SWEEP, cells)

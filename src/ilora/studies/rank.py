"""How small may the adapter be?"""

from collections.abc import Sequence

from ilora.studies.answer import Answer
from ilora.studies.cells import Cell
from ilora.studies.plan import Ask, Point
from ilora.studies.sweep import Sweep, rank_answer

SWEEP = Sweep("rank", "rank", (1, 2, 4, 8, 16, 32, 64), (1, 4, 16, 64), control=False)


class Rank:
    """See ``ilora.studies.answer.Question``."""

    name = "rank"
    of_checkpoints = False
    asks = "How small may the adapter be?"
    shows = (
        "The same fit at ranks from 1 to 64, with our recipe and the published one. A flat curve means that few "
        "weights suffice: the generator knew it already. Dashed: the same fit on random weights, at the middle rank."
    )

    def points(self, ask: Ask) -> list[Point]:
        """Both presets at every rank, random weights at the middle one."""
        return SWEEP.points(ask)

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """The smallest rank within a tenth of the best."""
        return rank_answer(SWEEP, cells)

"""Studies: a grid of fits, and the question that its figure answers. One file a question.

Here is only what the command line needs to name them; ``ilora.studies.study`` runs them.
"""

import importlib
from typing import TYPE_CHECKING

from ilora import checks

if TYPE_CHECKING:
    from ilora.studies.answer import Question

_CLASSES = {
    "intrinsics": "Intrinsics",
    "families": "Families",
    "rank": "Rank",
    "labels": "Labels",
    "quality": "Quality",
    "controls": "Controls",
    "layers": "Layers",
    "recipe": "Recipe",
}
NAMES = tuple(_CLASSES)


def question(name: str) -> "Question":
    """The question of that name.

    Raises:
        ValueError: there is none.
    """
    checks.choice("study", name, known=NAMES)
    return getattr(importlib.import_module(f"ilora.studies.{name}"), _CLASSES[name])()

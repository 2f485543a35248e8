"""The evaluation protocols that papers' numbers come from, by name.

A number without its protocol says nothing: crop, range, alignment, clipping, colour space and the way in which images
become one number all change it. ``docs/protocols.md`` shows one prediction under all of them.
"""

import difflib

from ilora.protocols.base import Protocol, Rule
from ilora.protocols.judge import Verdict, apart, disagreement, gap, judge, matched, primary
from ilora.protocols.published import PROTOCOLS
from ilora.protocols.tally import Tally

__all__ = [
    "DEFAULT",
    "Protocol",
    "Rule",
    "Tally",
    "Verdict",
    "apart",
    "disagreement",
    "gap",
    "judge",
    "matched",
    "names",
    "primary",
    "protocol",
]

DEFAULT = "rooms"


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PROTOCOLS)}"
        raise ValueError(f"there is no protocol {name!r}; {hint}")
    return PROTOCOLS[name]


def names(quantity: str | None = None) -> tuple[str, ...]:
    """Names of all protocols, or of those that compare a quantity with a true map."""
    rules = {name: one.rules.get(quantity) for name, one in PROTOCOLS.items()}
    return tuple(name for name, rule in rules.items() if quantity is None or (rule and not rule.judged))

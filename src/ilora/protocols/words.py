"""Protocols in words, for the terminal, for pages and for the files of results."""

import inspect
import math
import textwrap

from ilora.intrinsics import intrinsic
from ilora.ops.metrics import LEGEND
from ilora.protocols import steps
from ilora.protocols.base import Protocol
from ilora.protocols.published import PROTOCOLS

WIDTH = 110  # of a line


def facts(protocol: Protocol, quantity: str) -> dict[str, str]:
    """What the numbers of a protocol depend on, step by step: heading to words."""
    rule = protocol.rule(quantity)
    said = {"expects": rule.expects, "size": rule.resolution}
    if not rule.metrics:
        kind = intrinsic(quantity)
        return said | {"metrics": inspect.getdoc(type(kind).metrics) or "", "aggregation": rule.aggregation}
    if rule.judged:
        return said | {"truth": "people's judgements", "metrics": "whdr [%]", "aggregation": rule.aggregation}
    low, high = rule.within
    said["mask"] = steps.CROPS[rule.crop].words
    if math.isfinite(low):
        said["mask"] += f"; truth above {low:g} m" + (f" and below {high:g} m" if math.isfinite(high) else "")
    said["alignment"] = steps.ALIGNMENTS[rule.align].words
    if rule.fit_side:
        said["alignment"] += f", on a grid of at most {rule.fit_side} px a side"
    if rule.clip:
        far = f" to {rule.clip[1]:g} m" if math.isfinite(rule.clip[1]) else " and up"
        said["clip"] = f"{rule.clip[0]:g} m{far}"
    if rule.expose:
        said["exposure"] = f"the truth's 90th percentile of brightness becomes {steps.LEVEL:g}, then clipped to [0, 1]"
    units = [f"{name} [{LEGEND[name].unit}]" if LEGEND[name].unit else name for name in rule.metrics]
    return said | {
        "space": steps.SPACES[rule.space].words,
        "metrics": ", ".join(units),
        "aggregation": rule.aggregation,
    }


def listing() -> str:
    """A line a protocol: its name, what it judges, what it is."""
    rows = [(name, ", ".join(one.rules), one.about) for name, one in PROTOCOLS.items()]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:<{wide[0]}}  {judges:<{wide[1]}}  {about}" for name, judges, about in rows)


def description(protocol: Protocol) -> str:
    """All of a protocol in words; quantities that are judged alike are told once."""
    blocks: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for quantity in protocol.rules:
        blocks.setdefault(tuple(facts(protocol, quantity).items()), []).append(quantity)
    lines = [f"{protocol.name}: {protocol.about}", *_wrapped("source", protocol.source)]
    for block, quantities in blocks.items():
        lines += ["", " and ".join(quantities), *(line for fact in block for line in _wrapped(*fact))]
    return "\n".join(lines)


def _wrapped(heading: str, text: str) -> list[str]:
    """A heading with its text beside it."""
    lines = textwrap.wrap(" ".join(text.split()), WIDTH - 15)
    return [f"  {heading if place == 0 else '':<13}{line}" for place, line in enumerate(lines)]

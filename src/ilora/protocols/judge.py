"""From a prediction and a truth to the numbers of a protocol."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ilora.intrinsics import intrinsic
from ilora.ops import masked, metrics, pooling
from ilora.ops.judgements import whdr
from ilora.protocols import steps
from ilora.protocols.base import Protocol, Rule
from ilora.records import Judgements, Map, Valid


class Verdict(NamedTuple):
    """What a protocol says about a batch.

    Attributes:
        scores: metric to one number an image; NaN where an image has no pixel that counts or cannot be aligned.
        pixels: how many of each image counted.
        angles: histogram of each image's angles where the rule is pooled, see ``ilora.ops.pooling``; else None.
    """

    scores: dict[str, Float[Tensor, " b"]]
    pixels: Float[Tensor, " b"]
    angles: Int[Tensor, "b bins"] | None


def primary(protocol: Protocol, quantity: str) -> str:
    """The metric that methods are compared by; lower is better."""
    rule = protocol.rule(quantity)
    return rule.metrics[0] if rule.metrics else intrinsic(quantity).primary


def matched(protocol: Protocol, quantity: str, *, judged: bool) -> Rule:
    """The rule for a quantity, if it takes what the data holds.

    Args:
        judged: the data holds people's judgements, not true maps.

    Raises:
        ValueError: the protocol does not judge the quantity, or needs the other kind of data.
    """
    rule = protocol.rule(quantity)
    if judged and not rule.judged:
        raise ValueError(f"people's judgements need a protocol that reads them, got {protocol.name}; use iiw")
    if rule.judged and not judged:
        raise ValueError(
            f"the protocol {protocol.name} needs people's judgements, got a true map; use iiw:PATH as data"
        )
    return rule


def judge(protocol: Protocol, quantity: str, map: Map, target: Map, valid: Valid) -> Verdict:
    """Errors of maps under a protocol.

    Args:
        quantity: what ``map`` holds: an intrinsic, or ``disparity``, whose truth is depth.
        map: prediction at the truth's size, in ilora's units and axes (normals in RUB).
        target: truth: normals in RUB, depth in metres, albedo and shading in linear RGB.
        valid: where the truth holds a measurement; a protocol leaves out more of it.

    Raises:
        ValueError: the protocol does not judge the quantity; shapes that do not belong together; NaN or infinity inside
            the mask; a truth whose surfaces face away from the camera.
    """
    rule = matched(protocol, quantity, judged=False)
    if not rule.metrics:
        return Verdict(intrinsic(quantity).metrics(map, target, valid), valid.flatten(1).sum(1).double(), None)
    metrics.require(map, target, valid)
    map, target, valid = _prepared(rule, map, target, valid)
    angles = pooling.histogram(map, target, valid) if rule.pooled else None
    return Verdict(steps.scores(rule.metrics, map, target, valid), valid.flatten(1).sum(1).double(), angles)


def apart(
    protocol: Protocol, quantity: str, map: Map, target: Map, valid: Valid
) -> tuple[Float[Tensor, "b 1 h w"], Valid]:
    """How far each pixel is off once the protocol's steps are taken, 0 where it does not count; and where it counts.

    For pictures: the unit and the end of the scale are those of ``gap``.

    Args:
        quantity, map, target, valid: as in ``judge``.

    Raises:
        ValueError: as ``judge``.
    """
    rule = protocol.rule(quantity)
    metrics.require(map, target, valid)
    map, target, valid = _prepared(rule, map, target, valid)
    return torch.where(valid, gap(protocol, quantity).measure(map, target), 0), valid


def gap(protocol: Protocol, quantity: str) -> steps.Gap:
    """What ``apart`` measures."""
    return steps.SPACES[protocol.rule(quantity).space].gap


def disagreement(protocol: Protocol, quantity: str, map: Map, said: Sequence[Judgements]) -> Verdict:
    """How far maps are from what people said of pairs of points, under a protocol whose rule is ``judged``.

    Args:
        quantity: what ``map`` holds.
        map: prediction in linear RGB, at any scale.
        said: the judgements of each image.

    Returns:
        ``whdr`` [%], NaN for an image without a judgement; ``pixels`` counts the judgements.

    Raises:
        ValueError: the protocol needs a true map, or ``whdr`` refuses an image.
    """
    matched(protocol, quantity, judged=True)
    scores = [whdr(albedo, one.points, one.darker, one.weight) for albedo, one in zip(map, said, strict=True)]
    counted = torch.tensor([len(one.darker) for one in said], dtype=torch.float64)
    return Verdict({"whdr": torch.stack(scores)}, counted, None)


def _prepared(rule: Rule, map: Map, target: Map, valid: Valid) -> tuple[Map, Map, Valid]:
    """Prediction and truth as they are compared, 0 outside the pixels that count, and which those are."""
    size, (low, high), space = valid.shape[-2:], rule.within, steps.SPACES[rule.space]
    map, target = (torch.where(valid, masked.precise(values), 0) for values in (map, target))
    valid = valid & ((target > low) & (target < high)).all(1, keepdim=True)
    valid = space.known(target, valid & steps.CROPS[rule.crop].mask(*size).to(valid.device))
    fitted = valid & steps.grid(*size, longest=rule.fit_side).to(valid.device)
    map = steps.ALIGNMENTS[rule.align].apply(map, target, fitted)
    solved = (map.isfinite() | ~valid).flatten(1).all(1)  # [b], false where there was too little to align by
    valid = valid & solved[:, None, None, None]
    map = map.clamp(*rule.clip) if rule.clip else map
    if rule.expose:
        map, target, valid = steps.exposed(map, target, valid)
    map, target = (torch.where(valid, space.encode(values), 0) for values in (map, target))
    return map, target, valid

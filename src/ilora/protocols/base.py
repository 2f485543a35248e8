"""What an evaluation protocol is: for each quantity that it judges, the steps from two maps to numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

FULL_SIZE = "predictions are resized to the truth's own size"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a protocol judges one quantity. The steps are taken in the order of the fields from ``crop`` on.

    Attributes:
        expects: what the prediction must be, in words.
        metrics: names in ``steps.METRICS``; the first is the primary one, lower is better. Empty: the intrinsic's own,
            and the steps are taken for pictures of the error only.
        resolution: at which size the two are compared, in words.
        crop: part of the image that counts, a name in ``steps.CROPS``.
        within: truths strictly between these count [m].
        fit_side: longest side of the even grid of pixels that the alignment is fitted on [px]; None: all pixels.
        align: how the prediction is brought to the truth, a name in ``steps.ALIGNMENTS``.
        clip: bounds of the aligned prediction [m]; None: as it is.
        expose: bring both to the truth's exposure, see ``steps.exposed``.
        space: axes, unit or colour space of the comparison, a name in ``steps.SPACES``.
        pooled: every pixel of the data set has one vote, instead of every image.
        judged: there is no true map; people's judgements of pairs of points take its place.
    """

    expects: str
    metrics: tuple[str, ...] = ()
    resolution: str = FULL_SIZE
    crop: str = "none"
    within: tuple[float, float] = (-math.inf, math.inf)
    fit_side: int | None = None
    align: str = "none"
    clip: tuple[float, float] | None = None
    expose: bool = False
    space: str = "own"
    pooled: bool = False
    judged: bool = False

    @property
    def aggregation(self) -> str:
        """How images become one number, in words."""
        if self.judged:
            return "per image over its judgements, by confidence, then over images"
        return "pooled over the pixels of all images" if self.pooled else "per image over its pixels, then over images"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A named way to judge maps.

    Attributes:
        name: what results are labelled with.
        about: in a sentence.
        source: where it is written down, and every known deviation from it.
        rules: quantity to rule. A quantity is an intrinsic, or ``disparity``, which is judged against depth.
    """

    name: str
    about: str
    source: str
    rules: Mapping[str, Rule] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", MappingProxyType(dict(self.rules)))  # as frozen as the rest

    def rule(self, quantity: str) -> Rule:
        """The rule for a quantity.

        Raises:
            ValueError: this protocol does not judge it.
        """
        if quantity not in self.rules:
            raise ValueError(f"the protocol {self.name} judges {' and '.join(self.rules)}, got {quantity!r}; "
                             "'ilora protocols' lists what the others judge")  # fmt: skip
        return self.rules[quantity]

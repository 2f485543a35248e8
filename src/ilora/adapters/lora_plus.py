"""LoRA+: the up-projections of an adapter learn faster than its down-projections.

Hayou et al. 2024, arXiv 2402.12354: B begins at zero and A does not, so in wide networks one learning rate for both is
too small for B. They let B learn ``ratio`` times as fast as A and find 16 good where the labels are hard. Theirs leaves
weight decay out for A; here it is the fit's for both.
"""

from typing import Any

from torch import Tensor


def grouped(parameters: dict[str, Tensor], ratio: float) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Weights in the order in which an optimizer shall be given them, and the groups for it.

    Each group has its ``ratio`` to the scheduled learning rate beside its ``params``. A ratio of 1 is one group in the
    given order. DoRA's magnitudes learn as A does.

    Args:
        parameters: the weights that learn, by name.
        ratio: learning rate of B divided by that of A.

    Raises:
        ValueError: a ratio other than 1 for weights without an up-projection.
    """
    if ratio == 1:
        return parameters, [{"params": list(parameters.values()), "ratio": 1.0}]
    up = {name: weight for name, weight in parameters.items() if ".lora_B." in name}
    if not up:
        raise ValueError(f"lr_ratio must be 1 without a low-rank adapter, got {ratio:g}; leave it out for a control")
    rest = {name: weight for name, weight in parameters.items() if name not in up}
    groups = [{"params": list(rest.values()), "ratio": 1.0}, {"params": list(up.values()), "ratio": ratio}]
    return rest | up, groups

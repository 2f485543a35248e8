"""How networks of embedded generators begin, where torch's own start costs the first thousands of pictures."""

import math

from torch import nn


def silence(network: nn.Module, last: tuple[str, ...]) -> None:
    """Let what is given pass at birth: residual branches begin silent, all other convolutions keep the variance.

    At torch's own start a residual branch drowns what passes beside it, and a network first learns to undo that.

    Args:
        last: how the names of those layers end that close a branch.
    """
    for name, module in network.named_modules():
        if name.endswith(last):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
            nn.init.zeros_(module.bias)

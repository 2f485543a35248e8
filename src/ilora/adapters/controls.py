"""Controls that an adapter is compared with: the same network drawn at random, and all of its weights trained.

The linear probes, which are controls too, are in ``ilora.adapters.probes``.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

PROBES = ("ridge", "head")  # a linear map of frozen activations learns, in closed form or update by update
METHODS = ("full", "scratch", *PROBES)  # all weights learn, from the generator's own, from random ones, or of the probe


def randomise(network: nn.Module, seed: int) -> None:
    """Draw every weight of ``network`` again, in place, as its module's class would at birth.

    Drawn in float32 on the CPU and rounded to the weight's own type, so that the same seed gives the same network on
    any device. A parameter whose module has no ``reset_parameters`` is drawn by ``_draw``.

    Args:
        seed: of all weights together; the global random state is left as it was.

    Raises:
        ValueError: the network carries a low-rank adapter, whose zeros must stay zeros.
    """
    carried = [name for name, _ in network.named_parameters() if ".lora_" in name]
    if carried:
        raise ValueError(f"randomise draws a bare network, got one with {carried[0]}; detach(network) first")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in reversed(list(network.modules())):  # a parent may overrule what its children drew
            _redraw(module)


def _redraw(module: nn.Module) -> None:
    """Reset the parameters that ``module`` owns itself, keeping their device, type and layout."""
    own = dict(module.named_parameters(recurse=False))
    kept = {name: parameter.data for name, parameter in own.items()}
    for parameter in own.values():
        parameter.data = torch.empty(parameter.shape, dtype=torch.float32)  # a linear layer's [o, i], say
    reset: Callable[[], None] | None = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if reset is not None:
        reset()
    else:
        for name, parameter in own.items():
            parameter.data = _draw(name, parameter.data)
    for name, parameter in own.items():
        parameter.data = kept[name].copy_(parameter.data)


def _draw(name: str, like: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Birth of a parameter that no class answers for: gains 1, other vectors 0, the rest N(0, 1 / inputs)."""
    if like.ndim < 2:
        return torch.full_like(like, float(name in ("weight", "scale", "gain", "gamma")))
    inputs: Float[Tensor, "*rest"] = like[0]  # of the first output
    return torch.randn(like.shape) / math.sqrt(inputs.numel())

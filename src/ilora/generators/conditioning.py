"""What a pipeline of diffusers tells its denoiser besides latent and time: captured from the pipeline itself.

The pipeline is called as anybody would call it; a hook on the denoiser takes the arguments of the first call and ends
the pipeline there. So whatever a family conditions on (text, pooled text, positions, sizes, masks, guidance) comes
in the form that its own code makes, and none of it is written down again here.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ilora.data.cache import Cache, Part


class _Called(Exception):
    """The denoiser was called; nothing is wrong."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__("captured")
        self.arguments = arguments


def capture(pipeline: Any, network: nn.Module, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the first call of ``network``, by name, that ``pipeline(**options)`` makes; it is not run.

    Raises:
        ValueError: the pipeline ended without calling it.
    """
    signature = inspect.signature(network.forward)

    def end(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise _Called(dict(signature.bind(*given, **named).arguments))

    handle = network.register_forward_pre_hook(end, with_kwargs=True)
    try:
        pipeline(**options)
    except _Called as called:
        return called.arguments
    finally:
        handle.remove()
    raise ValueError(f"expected {type(pipeline).__name__} to call its {type(network).__name__}, got an end without it")


def expanded(value: Any, batch: int) -> Any:
    """A captured argument of one image for a batch of them: tensors and lists have one entry an image."""
    if isinstance(value, Tensor):
        return value.expand(batch, *value.shape[1:])
    if isinstance(value, list):
        return value * batch
    return copy.copy(value)  # some denoisers take out of dictionaries what they have used


class Words:
    """Stands in for a pipeline's ``encode_prompt``: the text encoders' answer, made on the CPU and cached on disk."""

    def __init__(self, load: Callable[[], Any], key: Callable[[], Sequence[Part]]) -> None:
        """Nothing is loaded yet.

        Args:
            load: a pipeline of the same class with text encoders, on the CPU.
            key: all that the answer depends on besides the arguments.
        """
        self._load, self._key = load, key
        self._pipeline: Any = None

    def at(self, network: nn.Module) -> Callable[..., tuple[Any, ...]]:
        """``encode_prompt`` with its answer in the place and type of the network's weights."""
        weight = next(network.parameters())

        def encode_prompt(*given: Any, **named: Any) -> tuple[Any, ...]:
            named = {name: value for name, value in named.items() if name != "device"}
            key = "prompt", *self._key(), list(given), named
            flat = Cache().get(*key, make=lambda: _flat(self._encode(given, named)))
            # In memory of its own: tensors read from a file begin anywhere, and kernels round by where they begin.
            return _restored({name: _placed(tensor.clone(), weight) for name, tensor in flat.items()})

        return encode_prompt

    def release(self) -> None:
        """Free the text encoders; the next new prompt loads them again."""
        self._pipeline = None

    @torch.no_grad()
    def _encode(self, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        self._pipeline = self._pipeline or self._load()
        with torch.autocast("cpu", enabled=False):  # a training step may be the first to ask, and must not round words
            return self._pipeline.encode_prompt(*copy.deepcopy(given), **copy.deepcopy(named), device="cpu")


def _placed(tensor: Tensor, weight: Tensor) -> Tensor:
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)


def _flat(answer: tuple[Any, ...]) -> dict[str, Tensor]:
    """Tensors by their place in an answer of tensors, lists of tensors and None."""
    flat = {"length": torch.tensor(len(answer))}
    for place, part in enumerate(answer):
        if isinstance(part, list):
            flat |= {f"{place}.{index}": tensor for index, tensor in enumerate(part)}
        elif part is not None:
            flat[f"{place}"] = part
    return flat


def _restored(flat: dict[str, Tensor]) -> tuple[Any, ...]:
    """The answer that ``_flat`` took apart; an empty list comes back as None."""
    answer = []
    for place in range(int(flat["length"])):
        parts = [flat[f"{place}.{index}"] for index in range(sum(name.startswith(f"{place}.") for name in flat))]
        answer.append(parts or flat.get(f"{place}"))
    return tuple(answer)

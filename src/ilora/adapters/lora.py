"""A low-rank change to a generator's network, made with PEFT, and every way back from it to the bit.

The life of an adapter: ``attach``, train what ``trainable`` lists, ``state``, later ``load_state``; ``merge`` to
predict at the base's speed, ``unmerge``, ``detach``. A fresh adapter changes nothing; ``disabled``, ``unmerge`` and
``detach`` give the base's own bits. The controls ``full`` and ``scratch`` (adapters/controls.py) go through the same
functions.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora.adapters import controls
from ilora.config import AdapterConfig

LOW_RANK = {"lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}, "eva": {}}  # method: PEFT's switch
UNEVEN = ("eva",)  # methods whose layers differ in rank
METHODS = (*LOW_RANK, *controls.METHODS)
ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Count:
    """How many weights learn.

    Attributes:
        moving: weights that learn.
        total: weights of the network without its adapter.
    """

    moving: int
    total: int

    def __str__(self) -> str:
        return f"{self.moving:,} of {self.total:,} weights move ({100 * self.moving / self.total:.2f} %)"


@dataclass
class _Attached:
    """What a network remembers while it carries an adapter.

    ``base`` holds the base weights that the adapter has overwritten: those of merged layers, or all for a control.
    """

    config: AdapterConfig
    base: dict[str, Tensor] = field(default_factory=dict)


def attach(
    network: nn.Module,
    config: AdapterConfig,
    targets: str | Sequence[str],
    seed: int = 0,
    *,
    start: dict[str, Tensor] | None = None,
) -> Count:
    """Give ``network`` an adapter that changes nothing yet; only the adapter's weights learn from now on.

    Low-rank weights are float32 whatever the base is. The down-projection is drawn from N(0, 1 / rank^2), the
    up-projection is zero, as in the published training code (diffusers 0.20, ``LoRALinearLayer``). The controls move
    the network's own weights, in their own type: load the generator in float32 to train them.

    Args:
        targets: regular expression over whole module names, or the names' last parts; only linear and convolution
            layers count, without grouped ones. The controls ignore it: all weights learn.
        seed: draws the adapter, or the network itself for ``scratch``; the global random state is left as it was.
        start: down-projections [r, i, ...] by layer, which may differ in rank; layers without one, or of rank 0, are
            not adapted. The scale stays alpha / rank of ``config``. Default: drawn, all of one rank.

    Raises:
        ValueError: an unknown method, a rank below 1, targets that match nothing, or a network that has an adapter.
    """
    if attached(network):
        raise ValueError(f"the network already carries {_attached(network).config}; detach(network) first")
    if config.method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {config.method!r}")
    total = sum(parameter.numel() for parameter in network.parameters())
    record = _Attached(config)
    if config.method in controls.METHODS:
        record.base = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if config.method == "scratch":
            controls.randomise(network, seed)
        network.requires_grad_(True)
    else:
        chosen = adaptable(network, targets)
        ranks = {name: config.rank if start is None else len(start.get(name, ())) for name in chosen}
        _inject(network, config, {name: rank for name, rank in ranks.items() if rank})
        _draw(network, seed, start or {})
    network._ilora_adapter = record
    return Count(sum(parameter.numel() for parameter in trainable(network)), total)


def attached(network: nn.Module) -> bool:
    """Whether ``network`` carries an adapter."""
    return hasattr(network, "_ilora_adapter")


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The weights that learn, in a fixed order: the adapter's, or all of them for the controls.

    Raises:
        ValueError: the network carries no adapter.
    """
    return list(_weights(network).values())


def state(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the adapter's weights on the CPU, or of the network's whole state for the controls.

    Names are ``LAYER.lora_A.weight`` [r, i, ...], ``LAYER.lora_B.weight`` [o, r, ...] and for DoRA
    ``LAYER.lora_magnitude_vector`` [o], of convolutions [1, o, 1, 1].

    Raises:
        ValueError: the network carries no adapter.
    """
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in _tensors(network).items()}


def downs(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The down-projections by layer among an adapter's weights: what ``attach`` takes as ``start``."""
    end = ".lora_A.weight"
    return {name.removesuffix(end): tensor for name, tensor in weights.items() if name.endswith(end)}


def load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy weights that ``state`` gave into the attached adapter.

    Raises:
        ValueError: names or shapes differ from the attached adapter's, or the adapter is merged.
    """
    own = _tensors(network)
    if any(layer.merged for _, layer in _layers(network)):
        raise ValueError("the adapter is merged, got new weights for it; unmerge(network) first")
    strange = sorted(own.keys() ^ state.keys())
    if strange:
        raise ValueError(
            f"the state must hold the adapter's {len(own)} tensors, got {len(state)}; they differ in {strange[:3]}; "
            "attach an adapter of the same method, rank and targets first"
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{name} must be {tuple(tensor.shape)}, got {tuple(state[name].shape)}; attach with the same rank first"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def merge(network: nn.Module) -> None:
    """Fold the adapter into the base weights: the same output to rounding, at the base's speed and memory.

    The base weights are kept for ``unmerge``. A second merge and the controls' merge change nothing.
    """
    base = _attached(network).base
    for name, layer in _layers(network):
        if not layer.merged:
            base[name] = layer.get_base_layer().weight.data.clone()  # [o, i, ...]
            layer.merge()


def unmerge(network: nn.Module) -> None:
    """Undo ``merge``: the base weights come back to the bit, the adapter works beside them again."""
    base = _attached(network).base
    for name, layer in _layers(network):
        if layer.merged:
            weight = layer.get_base_layer().weight
            weight.data = base.pop(name).to(weight.device)
            layer.merged_adapters.clear()


def detach(network: nn.Module) -> None:
    """Take the adapter off: the network is the base again, to the bit, and nothing in it learns.

    Raises:
        ValueError: the network carries no adapter.
    """
    record = _attached(network)
    if record.config.method in controls.METHODS:
        _load(network, record.base)
    else:
        unmerge(network)
        for name, layer in _layers(network):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())
        del network.peft_config
    network.requires_grad_(False)
    del network._ilora_adapter


@contextmanager
def disabled(network: nn.Module) -> Iterator[None]:
    """Within it, ``network`` is the base, to the bit; merged or not, the adapter is back afterwards.

    A network without an adapter is left alone.
    """
    if not attached(network):
        yield
        return
    record = _attached(network)
    if record.config.method in controls.METHODS:
        moved = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        _load(network, record.base)
        try:
            yield
        finally:
            _load(network, moved)
        return
    merged = any(layer.merged for _, layer in _layers(network))
    learning = {name: parameter.requires_grad for name, parameter in _weights(network).items()}
    unmerge(network)
    _switch(network, on=False)
    try:
        yield
    finally:
        _switch(network, on=True)
        for name, parameter in _weights(network).items():
            parameter.requires_grad_(learning[name])
        if merged:
            merge(network)


def effective_weight(layer: nn.Module) -> Float[Tensor, "o i *kernel"]:
    """Weight of a linear or convolution layer as its adapter, where it carries one, makes it; gradients pass.

    For layers whose weight enters a formula instead of being applied to an input, such as demodulated convolutions.
    """
    if not hasattr(layer, "get_base_layer"):  # as PEFT's layers have; without an adapter PEFT is not loaded
        return layer.weight
    base: Float[Tensor, "o i *kernel"] = layer.get_base_layer().weight
    if layer.merged or layer.disable_adapters:
        return base
    delta = layer.get_delta_weight("default").to(base)
    magnitudes = layer.lora_magnitude_vector
    if "default" not in magnitudes:
        return base + delta
    size = magnitudes["default"].get_weight_norm(base, delta.detach(), 1.0)  # [o], of convolutions [1, o, 1, 1]
    scale = (magnitudes["default"].weight / size).view(-1, *[1] * (base.ndim - 1))  # [o, 1, ...]
    return (scale * (base + delta)).to(base)


def _attached(network: nn.Module) -> _Attached:
    if not attached(network):
        raise ValueError(f"the network must carry an adapter, got a bare {type(network).__name__}; attach one first")
    return network._ilora_adapter


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that PEFT put in, which has all models of transformers loaded: late, since not all need it."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer)]


def adaptable(network: nn.Module, targets: str | Sequence[str]) -> dict[str, nn.Module]:
    """The linear and convolution layers that ``targets`` asks for, by name, as ``attach`` chooses them.

    Raises:
        ValueError: there are none.
    """
    pattern = targets if isinstance(targets, str) else rf"(.*\.)?({'|'.join(map(re.escape, targets))})"
    layers = ((name, module) for name, module in network.named_modules() if isinstance(module, ADAPTABLE))
    known = {name: module for name, module in layers if getattr(module, "groups", 1) == 1}  # PEFT cannot merge others
    chosen = {name: module for name, module in known.items() if re.fullmatch(pattern, name)}
    if not chosen:
        raise ValueError(
            f"targets {targets!r} match none of the network's {len(known)} linear and convolution layers; "
            f"their names look like {list(known)[len(known) // 2]!r}"
        )
    return chosen


def _inject(network: nn.Module, config: AdapterConfig, ranks: dict[str, int]) -> None:
    """Give the named layers adapters of these ranks, all at the same scale."""
    if config.rank < 1:
        raise ValueError(f"rank must be at least 1, got {config.rank}")
    from peft import LoraConfig, inject_adapter_in_model

    alpha = config.rank if config.alpha is None else config.alpha
    uneven = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != config.rank}
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=alpha,
        target_modules="|".join(map(re.escape, ranks)),
        rank_pattern=uneven,
        alpha_pattern={name: alpha * rank / config.rank for name, rank in uneven.items()},
        **LOW_RANK[config.method],
    )
    with torch.random.fork_rng(devices=[]):  # PEFT draws from the global state; _draw replaces what it drew
        inject_adapter_in_model(settings, network)


def _draw(network: nn.Module, seed: int, start: dict[str, Tensor]) -> None:
    """Begin in float32: A as given or ~ N(0, 1 / rank^2), B = 0, and DoRA's magnitudes, the norms of the base rows."""
    generator = torch.Generator().manual_seed(seed)
    for name, layer in _layers(network):
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # [r, i, ...], [o, r, ...]
        drawn: Float[Tensor, "r i *kernel"] = torch.randn(down.shape, generator=generator) / down.shape[0]
        down.data = start.get(name, drawn).to(down.device, torch.float32)
        up.data = up.data.float().zero_()  # [o, r, ...]
        for magnitude in (layer.lora_magnitude_vector or {}).values():
            magnitude.update_layer(
                base_layer=layer.get_base_layer(), lora_A=down.data, lora_B=up.data, scaling=layer.scaling["default"]
            )


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that learn under the names of the adapter file."""
    if _attached(network).config.method in controls.METHODS:
        return dict(network.named_parameters())
    found = {name: parameter for name, parameter in network.named_parameters() if ".lora_" in name}
    return {_key(name): parameter for name, parameter in found.items()}


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """What a file must hold: the weights that learn, and for the controls the buffers too."""
    if _attached(network).config.method in controls.METHODS:
        return network.state_dict()
    return dict(_weights(network))


def _key(name: str) -> str:
    """PEFT's parameter name as PEFT writes it to files: without the adapter's name, magnitudes without ``weight``."""
    return name.replace(".default.", ".").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _switch(network: nn.Module, *, on: bool) -> None:
    for _, layer in _layers(network):
        layer.enable_adapters(on)


def _load(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Put whole weights back; copied in place, so that optimisers and compiled graphs keep their tensors."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(state[name])

"""EVA: adapters that begin along what the layers see, with more ranks where that explains more.

Paischer et al. 2024, arXiv 2410.07170: a layer's down-projection begins as the directions of largest variance of its
inputs, and all layers together share their ranks out by the share of its variance that each direction explains. No
label is looked at. As in PEFT, the inputs are centred and a layer gets at most ``RHO`` times the mean rank.

Two things differ from PEFT 0.21 (``peft.tuners.lora.eva``), which ``tests/adapters/test_eva.py`` compares with. PEFT
knows linear layers alone, where ``default`` also adapts convolutions; here a convolution's inputs are the patches under
its kernel. And PEFT goes through batches until an incremental decomposition stops turning, which may be never (where a
layer sees fewer words than ranks); here subspace iteration does a fixed number of passes over the same pictures.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.adapters.lora import adaptable
from ilora.config import FitConfig
from ilora.generators.base import Generator
from ilora.records import Record

RHO = 2  # largest rank of a layer, in mean ranks: theirs, and PEFT's default
PICTURES = 32  # of the training pictures, evenly spread
BATCH = 8  # of them in memory at once
TURNS = 4  # of the subspace; Halko et al. 2011, section 4.5, on a space of twice the size that is wanted
EXACT = 512  # inputs up to which that space is the whole one, so that nothing is approximated

Rows = Float[Tensor, "n d"]  # inputs of a layer: one a token, or one a patch
Basis = Float[Tensor, "d l"]


def start(generator: Generator, records: Record, config: FitConfig) -> dict[str, Float[Tensor, "r i *kernel"]]:
    """Where the adapters begin: a down-projection for each adapted layer, of the rank that falls to it, perhaps 0.

    A layer that is never called, because its weight enters a formula as a demodulated convolution's does, begins as one
    of ``lora``: drawn, at the mean rank. The generator must carry no adapter yet.
    """
    layers = adaptable(generator.network, generator.targets.get(config.targets, config.targets))
    inputs = {name: module.weight[0].numel() for name, module in layers.items()}
    largest = {name: min(RHO * config.rank, size) for name, size in inputs.items()}
    whole = {name: size if size <= EXACT else min(2 * largest[name], size) for name, size in inputs.items()}
    seen = _Seen(layers, whole)
    for _ in range(1 + TURNS):
        with seen.watching():
            _look(generator, records, config)
        seen.turn()
    found = {name: vectors[:, : largest[name]] for name, vectors in seen.bases.items()}
    shares = {name: seen.shares[name][: largest[name]] for name in found}
    ranks = allotted(shares, config.rank * len(found))
    draws = torch.Generator().manual_seed(config.seed)
    result = {}
    for name, module in layers.items():
        shape: tuple[int, ...] = module.weight.shape[1:]  # (i, *kernel)
        if name in found:
            down = found[name][:, : ranks[name]].mT.cpu()  # [r, d]
        else:
            down = torch.randn(config.rank, inputs[name], generator=draws) / config.rank
        result[name] = down.unflatten(1, shape).contiguous()
    return result


def allotted(shares: dict[str, Float[Tensor, " k"]], budget: int) -> dict[str, int]:
    """Ranks of the layers: the ``budget`` directions that explain most of their own layer's variance are taken.

    Args:
        shares: of a layer's variance, descending; as many as it may have ranks.
    """
    every = [(share, name) for name, own in shares.items() for share in own.tolist()]
    taken = [name for _, name in sorted(every, key=lambda one: -one[0])[:budget]]
    return {name: taken.count(name) for name in shares}


@torch.no_grad()
def _look(generator: Generator, records: Record, config: FitConfig) -> None:
    """One pass of the network over pictures, as an update does it; what a loss draws is the same each time."""
    device, count = next(generator.network.parameters()).device, len(records.code)
    places = torch.arange(min(PICTURES, count)) * count // min(PICTURES, count)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        for rows in places.split(BATCH):
            code, target, valid = (part[rows].to(device) for part in (records.code, records.target, records.valid))
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                generator.loss(code, target, valid)


class _Seen:
    """What is known of the inputs of layers after some passes over the same pictures.

    Attributes:
        bases: an orthonormal basis for each layer that was called, the largest variance first.
        shares: of the layer's variance along each column of it.
    """

    def __init__(self, layers: dict[str, nn.Module], sizes: dict[str, int]) -> None:
        """``sizes``: columns of the bases."""
        self.bases: dict[str, Basis] = {}
        self.shares: dict[str, Float[Tensor, " l"]] = {}
        self._layers, self._sizes = dict(layers), sizes
        self._means: dict[str, Float[Tensor, " d"]] = {}
        self._counts: dict[str, int] = {}
        self._sums: dict[str, Tensor] = {}  # first of the inputs, [d]; later of the covariance times the basis, [d, l]
        self._powers: dict[str, Float[Tensor, ""]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, what enters the layers is added up."""
        self._counts, self._sums, self._powers = {}, {}, {}
        known = {name: module for name, module in self._layers.items() if isinstance(module, nn.Linear | nn.Conv2d)}
        hooks = [module.register_forward_pre_hook(self._hook(name)) for name, module in known.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def turn(self) -> None:
        """After the first pass the means are known and bases are drawn; after each other one they are turned."""
        if not self._means:
            self._means = {name: total / self._counts[name] for name, total in self._sums.items()}
            self.bases = {name: _drawn(mean, self._sizes[name]) for name, mean in self._means.items()}
            return
        for name, moved in self._sums.items():
            basis, moved = self.bases[name].cpu().double(), moved.cpu().double()
            inside = basis.mT @ moved  # [l, l], the covariance within the basis, times the count
            variance, axes = torch.linalg.eigh((inside + inside.mT) / 2)  # ascending
            if len(basis) == basis.shape[1]:  # of the whole space: done
                turned = basis @ axes.flip(-1)
                del self._layers[name]
            else:
                turned = torch.linalg.qr(moved @ axes.flip(-1))[0]
            self.bases[name] = turned.to(self.bases[name])
            self.shares[name] = (variance.flip(-1) / self._powers[name].cpu().clamp(min=1e-30)).clamp(0, 1)

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            for part in given[0].detach().chunk(BATCH):  # patches are many times larger: one picture's at a time
                self._see(name, _rows(module, part).float())

        return add

    def _see(self, name: str, rows: Rows) -> None:
        """Add what enters a layer: first up to the means, later to the covariance."""
        if not self._means:
            self._add(name, len(rows), rows.sum(0), rows.new_zeros(()))
            return
        rows = rows - self._means[name]
        with torch.autocast(rows.device.type, enabled=False):  # float32, whatever the network works in
            self._add(name, len(rows), rows.mT @ (rows @ self.bases[name]), rows.square().sum())

    def _add(self, name: str, count: int, total: Tensor, power: Float[Tensor, ""]) -> None:
        self._counts[name] = self._counts.get(name, 0) + count
        self._sums[name] = self._sums.get(name, 0) + total
        self._powers[name] = self._powers.get(name, 0) + power


def _drawn(mean: Float[Tensor, " d"], size: int) -> Basis:
    """An orthonormal basis of a random space, the same for all layers of one width."""
    drawn = torch.randn(len(mean), size, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(drawn)[0].to(mean)


def _rows(module: nn.Module, given: Tensor) -> Rows:
    """Inputs of a layer as its weight [o, d] meets them: tokens, or the patches under a kernel."""
    if isinstance(module, nn.Conv2d):
        border = 0 if isinstance(module.padding, str) else module.padding
        patches = F.unfold(given, module.kernel_size, module.dilation, border, module.stride)  # [b, d, n]
        return patches.mT.flatten(0, 1)  # [b * n, d]
    return given.flatten(0, -2)

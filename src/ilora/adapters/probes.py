"""Linear probes: a 1 x 1 map from a frozen generator's activations to the picture that stands for the intrinsic.

The usual control for "the features know it" (Alain & Bengio 2016, arXiv 1610.01644). Here a probe is itself a
generator (``Probed``) whose network is the linear map and whose decoder is bilinear resampling, so that it learns,
predicts and is evaluated by the same code as an adapter: ``method = "ridge"`` in closed form, ``"head"`` by updates.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora.adapters.controls import PROBES
from ilora.config import FitConfig, Readout
from ilora.data.cache import content_hash
from ilora.generators.base import Generator
from ilora.generators.objective import cells, latent_loss
from ilora.ops import resample
from ilora.records import Code, Image, Loss, Record, Valid

METHODS = PROBES
DECODER = "decoder"  # value of ``targets`` that reads the decoder instead of the network
GRID = 64  # longest side of the grid that activations are brought to [cells]
RIDGE = 1e-3  # penalty on the weights of standardised activations, per cell
BATCH = 8  # images whose activations are in memory at once

Activations = Float[Tensor, "b d rows columns"]


class _Through(Exception):
    """A module has computed what was asked of it; what would follow is not needed."""


def stages(module: nn.Module, run: Callable[[], Any], *, aspect: float = 1.0) -> dict[str, Tensor]:
    """Activations [b, c, rows, columns] of a module's stages by name, in the order of its first pass in ``run``.

    A stage is a child with weights; containers (lists, sequences) are opened, whatever is in them. Of a stage that
    returns several tensors the first counts; tokens [b, n, c] count where n fills a grid. Others are left out.

    Args:
        run: computes something with the module; it is left as soon as the module is through.
        aspect: rows / columns of grids that come as tokens.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _given: Any, output: Any) -> None:
            map = _map(output, aspect)
            if map is not None:
                found[name] = map

        return hook

    def leave(_module: nn.Module, _given: Any, _output: Any) -> None:
        raise _Through

    hooks = [child.register_forward_hook(keep(name)) for name, child in _children(module, "")]
    hooks.append(module.register_forward_hook(leave))
    try:
        with contextlib.suppress(_Through):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _children(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """Stages of a module by name."""
    result = []
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            result += _children(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            result.append((f"{prefix}{name}", child))
    return result


def _map(output: Any, aspect: float) -> Tensor | None:
    """The first tensor of an output as a map; None where it is none."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    output = getattr(output, "sample", output)  # of a diffusers output
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return None
    if output.ndim == 4:
        return output if min(output.shape[-2:]) > 1 else None
    rows = round((output.shape[1] * aspect) ** 0.5)
    columns = output.shape[1] // max(rows, 1)
    return output.mT.unflatten(2, (rows, columns)) if rows * columns == output.shape[1] > 1 else None  # [b, c, r, c]


class Head(nn.Module):
    """Standardise, then one linear map of each cell; zero at birth."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))
        self.weight = nn.Parameter(torch.zeros(3, channels))
        self.bias = nn.Parameter(torch.zeros(3))

    def standard(self, activations: Activations) -> Activations:
        """Mean 0 and deviation 1 over the cells that ``prepare`` saw."""
        return (activations - self.mean) / self.deviation

    def forward(self, activations: Activations) -> Float[Tensor, "b 3 rows columns"]:
        """A small picture, [-1, 1] if it is right."""
        painted = torch.einsum("kd,bdrc->bkrc", self.weight, self.standard(activations))
        return painted + self.bias[:, None, None]


class Probed:
    """See ``ilora.generators.base.Generator``: another generator, seen through a linear map of its activations.

    Attributes:
        base: the frozen generator.
        network: the ``Head``.
        factor: side of one cell of the map's small picture [px].
        readout: of the base.
    """

    def __init__(self, base: Generator, targets: str) -> None:
        """Look at the base's stages once.

        Args:
            targets: ``decoder`` for the activations of the frozen decoder while it paints what the network computed;
                any other word for those of the network.

        Raises:
            ValueError: there are no activations that form a grid.
        """
        self.base, self.name, self.resolution = base, base.name, base.resolution
        self._module = _decoder(base) if targets == DECODER else base.network
        self.fingerprint = content_hash(base.fingerprint, targets == DECODER)[:32]
        self.targets: dict[str, str | list[str]] = {targets: ".*"}
        device = next(base.network.parameters()).device
        code = self.encode(torch.zeros(1, 3, base.resolution, base.resolution, device=device))
        maps = self._stages(code)
        if not maps:
            raise ValueError(
                f"a probe needs activations that form a grid, got none from {type(self._module).__name__} of "
                f"{base.name}; probe the other part (targets decoder or network)"
            )
        largest = max(map.shape[-1] for map in maps)
        self._shrink = -(-largest // GRID)
        self.factor = base.resolution // (largest // self._shrink)
        self.network = Head(sum(map.shape[1] for map in maps)).to(device)

    @property
    def readout(self) -> Readout:
        """How the base's output is read."""
        return self.base.readout

    @readout.setter
    def readout(self, value: Readout) -> None:
        """Change that of the base."""
        self.base.readout = value

    def ask(self, prompt: str) -> None:
        """Condition the base."""
        self.base.ask(prompt)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """That of the base."""
        return self.base.size(height, width)

    def sample(self, seeds: Sequence[int], prompt: str | Sequence[str] = "") -> tuple[Image, Code]:
        """Pictures of the base."""
        return self.base.sample(seeds, prompt)

    def encode(self, image: Image) -> Code:
        """Code of the base."""
        return self.base.encode(image)

    def target(self, image: Image) -> Code:
        """The picture on the grid of the activations, [b, 3, rows, columns]."""
        return resample.resize(image, image.shape[-2] // self.factor, image.shape[-1] // self.factor)

    def decode(self, target: Code) -> Image:
        """A small picture at full size."""
        return resample.resize(target, target.shape[-2] * self.factor, target.shape[-1] * self.factor)

    def forward(self, code: Code) -> Image:
        """Picture that the linear map reads off the activations."""
        return self.decode(self.network(self.activations(code)))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Squared error over valid cells."""
        device = self.network.weight.device
        return latent_loss(self.network(self.activations(code)), target.to(device), valid.to(device))

    @torch.no_grad()
    def activations(self, code: Code) -> Activations:
        """All stages side by side on the grid of the finest one, at most ``GRID`` cells along a side."""
        maps = self._stages(code)
        finest = max(maps, key=lambda map: map.shape[-2] * map.shape[-1])
        rows, columns = (max(1, side // self._shrink) for side in finest.shape[-2:])
        return torch.cat([resample.resize(map.float(), rows, columns) for map in maps], dim=1)  # [b, d, rows, columns]

    @torch.no_grad()
    def _stages(self, code: Code) -> list[Tensor]:
        aspect = code.shape[-2] / code.shape[-1] if code.ndim == 4 else 1.0
        return list(stages(self._module, lambda: self.base.forward(code), aspect=aspect).values())


def _decoder(generator: Generator) -> nn.Module:
    """The module that paints the picture from what the network computed: the one beside ``generator.network``."""
    parts = [part for part in vars(generator).values() if isinstance(part, nn.Module)]
    others = [part for part in parts if part is not generator.network]
    if not others:
        raise ValueError(f"expected a decoder beside the network of {generator.name}, got none; probe the network")
    return getattr(others[0], "decoder", others[0])


def probed(generator: Generator, config: FitConfig) -> Generator:
    """The generator that learns: itself, or a probe of it where ``config.method`` asks for one.

    Raises:
        ValueError: a probe of random weights is asked for.
    """
    if config.method not in METHODS:
        return generator
    if config.random_weights:
        raise ValueError("random_weights must be false for a linear probe, got true; it reads the generator's own")
    return Probed(generator, config.targets)


@torch.no_grad()
def prepare(generator: Generator, records: Record, method: str) -> dict[str, float]:
    """Standardise a probe's activations over all records, and for ``ridge`` solve for its map.

    Returns:
        The line of the log for a probe that is finished now; empty where updates have yet to come.
    """
    if not isinstance(generator, Probed):
        return {}
    began, head = time.monotonic(), generator.network
    gram, cross = _moments(generator, records)
    count, total = gram[-1, -1], gram[-1, :-1]
    mean = total / count
    deviation = (gram.diagonal()[:-1] / count - mean.square()).clamp(min=1e-8).sqrt()
    head.mean.copy_(mean[:, None, None])
    head.deviation.copy_(deviation[:, None, None])
    if method != "ridge":
        return {}
    weight, bias = ridge(gram, cross, penalty=RIDGE)
    head.weight.copy_(weight)
    head.bias.copy_(bias)
    rows = range(min(BATCH, len(records.code)))
    loss = generator.loss(records.code[list(rows)], records.target[list(rows)], records.valid[list(rows)]).mean()
    seconds = time.monotonic() - began
    speed = len(records.code) / seconds
    return {"step": 0, "loss": loss.item(), "lr": 0.0, "images_per_second": speed, "seconds": seconds}


def _moments(generator: Probed, records: Record) -> tuple[Float[Tensor, "e e"], Float[Tensor, "e 3"]]:
    """Sums over valid cells of x x' and x y', where x is the activations and a one, y the small picture; float64,
    on the CPU."""
    gram, cross = 0.0, 0.0
    for rows in torch.arange(len(records.code)).split(BATCH):
        device = generator.network.weight.device
        code, target, valid = (part[rows].to(device) for part in (records.code, records.target, records.valid))
        inside = cells(valid, generator.factor)[:, 0]  # [b, rows, columns]
        seen = generator.activations(code).movedim(1, -1)[inside]  # [n, d]
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)  # [n, d + 1]
        wanted = target.float().movedim(1, -1)[inside]  # [n, 3]
        gram, cross = gram + (seen.mT @ seen).cpu().double(), cross + (seen.mT @ wanted).cpu().double()
    return gram, cross


def ridge(
    gram: Float[Tensor, "e e"], cross: Float[Tensor, "e 3"], *, penalty: float
) -> tuple[Float[Tensor, "3 d"], Float[Tensor, "3"]]:
    """Ridge regression on standardised activations from their moments (Hoerl & Kennard 1970, eq. 2.1).

    Minimises mean |W z + b - y|^2 + penalty |W|^2, with z the activations at mean 0 and deviation 1 and b free.

    Args:
        gram: sums of x x' over the cells, the last entry of x being 1.
        cross: sums of x y'.
        penalty: above 0.
    """
    count = gram[-1, -1]
    mean, middle = gram[-1, :-1] / count, cross[-1] / count  # [d], [3]
    covariance = gram[:-1, :-1] / count - mean[:, None] * mean
    deviation = covariance.diagonal().clamp(min=1e-8).sqrt()
    covariance = covariance / deviation[:, None] / deviation
    along = (cross[:-1] / count - mean[:, None] * middle) / deviation[:, None]  # [d, 3]
    covariance = covariance + penalty * torch.eye(len(mean), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(covariance, along).mT, middle

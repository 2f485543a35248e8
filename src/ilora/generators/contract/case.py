"""A generator under test: an example for it to learn from, an adapter, and a short lesson."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.adapters import lora
from ilora.config import AdapterConfig, FitConfig
from ilora.data.transforms import mirror
from ilora.generators.base import Generator
from ilora.intrinsics.base import Intrinsic
from ilora.presets import learning_rate
from ilora.records import Code, Example, Image, Map, Valid

ADAPTER = AdapterConfig(rank=2, targets="attention+conv")  # that the checks attach
UPDATES = 6  # within which the loss must fall
FALL = 0.95  # of the first loss, that the last one must be below
MOVE = 0.1  # standard deviation of the noise that moves an adapter away from nothing


@dataclass(frozen=True)
class Lesson:
    """A few updates on one example and its mirror image.

    Attributes:
        losses: a row an update, a column an image.
        gradients: of the first update, by name of the weight.
        rate: learning rate.
    """

    losses: Float[Tensor, "u b"]
    gradients: dict[str, Tensor | None]
    rate: float


@dataclass
class Case:
    """A generator that is asked for an intrinsic, with a record of two images to learn from.

    Attributes:
        image, map, valid: an example and, where the generator encodes pictures, its mirror image.
        code, target: of both.
        refusal: why the generator encodes no picture, where it does not; the record is of its own samples then.
        bits: hash of every frozen weight, by name, from before the first check.
    """

    generator: Generator
    kind: Intrinsic
    image: Image
    map: Map
    valid: Valid
    code: Code
    target: Code
    refusal: str
    bits: dict[str, str]

    @classmethod
    def of(cls, generator: Generator, kind: Intrinsic) -> "Case":
        """The case with an example drawn at the generator's resolution, a corner of it not valid."""
        generator.ask(kind.prompt)
        height, width = generator.size(generator.resolution, generator.resolution)
        valid = torch.ones(1, 1, height, width, dtype=torch.bool)
        valid[..., : height // 4, : width // 4] = False
        map = kind.from_image(smooth(1, height, width))
        example = Example("example", smooth(0, height, width)[0], map[0], valid[0])
        pair = example, mirror(example, kind)
        image, map, valid = (torch.stack([getattr(one, part) for one in pair]) for part in ("image", "map", "valid"))
        device, refusal = device_of(generator), ""
        try:
            code = generator.encode(image.to(device))
        except ValueError as error:
            refusal = str(error)
            image, code = generator.sample([0, 1])
        target = generator.target(kind.to_image(map, valid).to(device))
        return cls(generator, kind, image, map, valid, code, target, refusal, bits(generator))

    def paint(self) -> Image:
        """What the generator makes of the codes."""
        with torch.no_grad():
            return self.generator.forward(self.code).float().cpu()

    @contextmanager
    def adapted(self, *, moved: bool, seed: int = 0) -> Iterator[None]:
        """Within it the network carries an adapter, fresh or moved away from nothing."""
        network = self.generator.network
        lora.attach(network, ADAPTER, self.generator.targets[ADAPTER.targets], seed)
        try:
            if moved:
                draw = torch.Generator().manual_seed(seed)
                state = lora.state(network)
                lora.load_state(network, {n: v + MOVE * torch.randn(v.shape, generator=draw) for n, v in state.items()})
            yield
        finally:
            lora.detach(network)

    @cached_property
    def lesson(self) -> Lesson:
        """The first of three learning rates, each a tenth of the one before, at which the mean loss falls."""
        weights = sum(parameter.numel() for parameter in self.generator.network.parameters())
        first = learning_rate(FitConfig(lr=None), weights)
        for rate in (first, first / 10, first / 100):
            taught = self._teach(rate)
            if fell(taught.losses.mean(1)):
                break
        return taught

    def _teach(self, rate: float) -> Lesson:
        network, losses, gradients = self.generator.network, [], {}
        with self.adapted(moved=False):
            optimizer = torch.optim.AdamW(lora.trainable(network), rate, weight_decay=0.0)
            for update in range(UPDATES):
                loss = self.loss()
                loss.mean().backward()
                if update == 0:
                    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
                    gradients = {name: None if grad is None else grad.clone() for name, grad in gradients.items()}
                losses.append(loss.detach().float().cpu())
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return Lesson(torch.stack(losses), gradients, rate)

    def loss(self, valid: Valid | None = None) -> Float[Tensor, " b"]:
        """The native loss of both images, with the same draws each time."""
        inside = (self.valid if valid is None else valid).to(self.code.device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return self.generator.loss(self.code, self.target, inside)


def smooth(seed: int, height: int, width: int) -> Image:
    """One picture of soft blobs, [-1, 1]."""
    field = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(field, (height, width), mode="bilinear", align_corners=True) * 2 - 1


def fell(losses: Float[Tensor, " u"]) -> bool:
    """Whether the last of some losses is clearly below the first."""
    return bool(losses[-1] < FALL * losses[0])


def device_of(generator: Generator) -> torch.device:
    """Where the network is."""
    return next(generator.network.parameters()).device


def bits(generator: Generator) -> dict[str, str]:
    """Hash of each weight and buffer of the generator's modules."""
    modules = {name: value for name, value in vars(generator).items() if isinstance(value, nn.Module)}
    modules["network"] = generator.network
    return {
        f"{part}.{name}": hashlib.sha256(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()).hexdigest()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }

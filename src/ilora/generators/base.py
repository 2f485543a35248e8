"""What every generator family implements: eight methods, and nothing about intrinsics or training."""

import inspect
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from ilora.config import Readout
from ilora.records import Code, Image, Loss, Valid


@runtime_checkable
class Generator(Protocol):
    """Anything that paints images, seen as a frozen decoder behind one adaptable network.

    Attributes:
        name: where it came from: an embedded name, a folder or a hub id.
        fingerprint: hash of its weights and settings; codes are cached and adapters are matched under it.
        resolution: side of the square image it was trained to paint [px].
        network: the module that adapters change; everything else stays frozen.
        targets: named sets of PEFT target modules in ``network``; ``"attention"`` and the preset's ``"attention+conv"``
            always exist (the same set where a family makes no difference).
        readout: how the network's output is read; may be replaced at any time, ignored by a family without time steps.
            A family that knows more than ``paint`` = single lists the words in an attribute ``paints``; its network may
            then depend on the readout.
    """

    name: str
    fingerprint: str
    resolution: int
    network: nn.Module
    targets: dict[str, str | list[str]]
    readout: Readout

    def ask(self, prompt: str) -> None:
        """Condition ``forward`` and ``loss`` on ``prompt`` from now on; families without text ignore it."""
        ...

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Nearest (height, width) [px] that ``encode`` accepts for an image of this shape."""
        ...

    def sample(self, seeds: Sequence[int], prompt: str | Sequence[str] = "") -> tuple[Image, Code]:
        """Paint one image a seed, unadapted, and return the codes that paint them again."""
        ...

    def encode(self, image: Image) -> Code:
        """Code of an image whose sides came from ``size``; deterministic."""
        ...

    def target(self, image: Image) -> Code:
        """What ``loss`` compares the network's output with, for the image that it should paint."""
        ...

    def decode(self, target: Code) -> Image:
        """The image that the frozen decoder head paints from a perfect target: the codec's ceiling."""
        ...

    def forward(self, code: Code) -> Image:
        """Image that the (adapted) network paints through the generator's own decoder head."""
        ...

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Native objective, one number an image; cells outside ``valid`` do not count.

        A family that draws noise or time takes them from torch's global random state on the CPU, image after image.
        ``fit`` makes that state a function of its seed and the update (``ilora.codes.drawing``), so that a killed and
        resumed fit draws the same, however the batch is split, without a word of it in this signature.
        """
        ...


@runtime_checkable
class Denoiser(Generator, Protocol):
    """A generator whose network goes from latent to latent at a time step, so that its output is read."""

    def paint(self, code: Code) -> Float[Tensor, "b c rows columns"]:
        """The clean latent that the network's output stands for under ``readout``, float32."""
        ...


@runtime_checkable
class Inverting(Protocol):
    """A generator whose codes do not hold every picture, such as a GAN, and that says what a code has lost.

    Whoever pairs a real picture with its code asks for it, where a generator has it: a fit leaves out the pixels that
    the code cannot know, a prediction reports how far it speaks of another picture.
    """

    def residual(self, image: Image, code: Code) -> Float[Tensor, "b 1 h w"]:
        """Mean absolute difference between ``image`` and what ``code`` paints, unadapted, around each pixel, in units
        of [-1, 1]: from 0 to 2."""
        ...


LOST = 0.25  # residual from which a pixel counts as not reproduced: an eighth of the range of colours


def lost(generator: Generator, image: Image, code: Code) -> Float[Tensor, "b 1 h w"] | None:
    """The residual of pictures under their codes; None for a generator whose codes hold the whole picture."""
    return generator.residual(image, code) if isinstance(generator, Inverting) else None


def lacking(made: object) -> list[str]:
    """Attributes and methods of the protocol that an object does not have, in the protocol's order."""
    methods = [name for name, value in vars(Generator).items() if inspect.isfunction(value) and name[0] != "_"]
    return [name for name in (*Generator.__annotations__, *methods) if not hasattr(made, name)]

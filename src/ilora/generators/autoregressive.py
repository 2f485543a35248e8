"""Generators of picture tokens: a codec with a codebook, and mostly a transformer that knows which tokens follow or
surround which. VQGAN with GPT (taming-transformers), aMUSEd, Janus, and the embedded ``rooms-ar``.

Adapters go into one of two networks, the name says which: ``NAME@decoder`` or ``NAME@readout``.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from ilora.adapters.lora import disabled
from ilora.config import Readout
from ilora.generators import codebooks, token_files
from ilora.generators.checkpoints import fingerprint
from ilora.generators.objective import latent_loss
from ilora.generators.sizes import nearest
from ilora.generators.token_files import Parts, split
from ilora.ops import losses
from ilora.records import Code, Image, Loss, Valid


class Autoregressive:
    """What both networks share; see ``ilora.generators.base.Generator``.

    Codes are token numbers [b, rows, columns], as float32, which is exact below 2^24.

    Attributes:
        codec: ``ilora.generators.codebooks.Codebook``.
        prior: ``ilora.generators.priors.Prior``; None where the checkpoint is a codec alone.
        readout: carried along; without time steps it changes nothing.
    """

    network: nn.Module
    targets: dict[str, str | list[str]]
    mode: str

    def __init__(self, name: str, parts: Parts, readout: Readout) -> None:
        self.name, self.readout = name, readout
        self.resolution, self.codec, self.prior = parts.resolution, parts.codec, parts.prior
        self._files = parts.files

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, configurations and which network adapters change, read when first asked for."""
        return hashlib.sha256(f"{fingerprint(self._files)} {self.mode}".encode()).hexdigest()[:32]

    def sample(
        self, seeds: Sequence[int], prompt: str | Sequence[str] = "", *, steps: int = 12, guidance: float | None = None
    ) -> tuple[Image, Code]:
        """Paint one image a seed from the prior, unadapted; each seed's image is the same in any batch.

        Args:
            prompt: one for all images, or one an image; for a prior of classes their numbers, and an empty one draws
                a class with the seed.
            steps: of a masked prior; the others take one step a token.
            guidance: weight of the prompt against the empty one; 1 leaves it out, None is as its authors draw.

        Raises:
            ValueError: a codec without a prior, neither one prompt nor as many as seeds, or no such class.
        """
        words = [prompt] * len(seeds) if isinstance(prompt, str) else list(prompt)
        if len(words) != len(seeds):
            raise ValueError(f"prompt must be one, or one for each of the {len(seeds)} seeds, got {len(words)}")
        if self.prior is None:
            raise ValueError(f"{self.name} must have a prior to paint by itself, got a codec alone; encode pictures")
        guidance = self.prior.guidance if guidance is None else guidance
        with torch.no_grad(), disabled(self.network):
            tokens = self.prior.draw(seeds, words, steps=steps, guidance=guidance)
            return self.codec.paint(self.codec.embed(tokens)).clamp(-1, 1), tokens.float()

    def encode(self, image: Image) -> Code:
        """Numbers of the codebook's entries nearest to the picture's latent."""
        return self.codec.tokens(image).float()

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Sides as multiples of a token's with about the area of the training images; see ``nearest``."""
        return nearest(height, width, resolution=self.resolution, step=self.codec.side)


class DecoderMode(Autoregressive):
    """Image to tokens to the adapted decoder: the paper's way. Targets are the images that it should paint."""

    mode = "decoder"

    def __init__(self, name: str, parts: Parts, readout: Readout) -> None:
        super().__init__(name, parts, readout)
        self.network, self.targets = parts.codec.head, dict(codebooks.TARGETS)

    def ask(self, prompt: str) -> None:
        """Nothing: the decoder reads no text."""

    def target(self, image: Image) -> Code:
        """The image itself: the decoder learns pixels, as it did at first."""
        return image.float()

    def decode(self, target: Code) -> Image:
        """The image through the frozen codec, unadapted."""
        with disabled(self.network):
            return self.codec.paint(self.codec.embed(self.codec.tokens(target)))

    def forward(self, code: Code) -> Image:
        """What the (adapted) decoder paints from a picture's tokens; not clamped, gradients pass."""
        return self.codec.paint(self.codec.embed(code.to(self.codec.device).long()))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """L1 of the pixels and of their differences."""
        painted = self.forward(code)
        target, valid = target.to(painted.device), valid.to(painted.device)
        return losses.absolute(painted, target, valid) + losses.edges(painted, target, valid, scales=1)


class ReadoutMode(Autoregressive):
    """The adapted transformer reads another picture off the whole one: at each cell the mean entry of the codebook
    under its distribution, painted by the frozen decoder. Targets are tokens, like codes."""

    mode = "readout"

    def __init__(self, name: str, parts: Parts, readout: Readout) -> None:
        super().__init__(name, parts, readout)
        if parts.prior is None:
            raise ValueError(f"{name} must have a prior to be read, got a codec alone; leave out @{self.mode}")
        self.network, self.targets = parts.prior.network, dict(parts.prior.targets)

    def ask(self, prompt: str) -> None:
        """Condition ``forward`` and ``loss`` on ``prompt`` from now on."""
        self.prior.ask(prompt)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The one size that a causal prior knows, whatever the aspect ratio; as above for one that reads any."""
        if not self.prior.fixed:
            return super().size(height, width)
        rows, columns = self.prior.grid
        return rows * self.codec.side, columns * self.codec.side

    def target(self, image: Image) -> Code:
        """The same as ``encode``."""
        return self.encode(image)

    def decode(self, target: Code) -> Image:
        """Image of tokens."""
        return self.codec.paint(self._embed(target))

    def forward(self, code: Code) -> Image:
        """What the (adapted) transformer reads off a picture, painted; not clamped, gradients pass."""
        return self.codec.paint(self.read(code))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Squared error of the mean entry against the target's, over valid cells."""
        return latent_loss(self.read(code), self._embed(target), valid.to(self.codec.device))

    def read(self, code: Code) -> Code:
        """The mean entry at each cell [b, d, rows, columns], float32."""
        return self.codec.expect(self.prior.read(code.to(self.codec.device).long()))

    def _embed(self, code: Code) -> Code:
        return self.codec.embed(code.to(self.codec.device).long())  # [b, d, rows, columns]


MODES = {kind.mode: kind for kind in (DecoderMode, ReadoutMode)}


def recognises(name_or_path: str) -> bool:
    """Whether the files there, or a hub id, are of this family; nothing is read but names and small text."""
    return token_files.kind_of(split(name_or_path)[0]) is not None


def load(name: str, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> Autoregressive:
    """Open an embedded generator, a path or a hub id; see ``ilora.generators.load``.

    Args:
        name: ``@decoder`` or ``@readout`` after it says which network adapters change. Without, it is the decoder where
            one learned from pixels with attention in it (VQGAN), and the transformer elsewhere.

    Raises:
        ValueError: another word after the @, or a network that is not there.
    """
    path, mode = split(name)
    parts = token_files.open_parts(path, device=device, dtype=dtype)
    mode = mode or parts.mode
    if mode not in MODES:
        raise ValueError(f"{path}@ must be followed by one of {', '.join(MODES)}, got {mode!r}")
    return MODES[mode](name, parts, readout)


def convert(checkpoint: Path | str, out: Path | str) -> Path:
    """Write a checkpoint of taming-transformers as a folder of safetensors, in its own precision; nothing is run.

    Args:
        checkpoint: ``.ckpt`` with its ``.yaml`` beside it, or in ``configs`` beside its folder.
        out: a folder that is empty or not there yet.

    Raises:
        FileNotFoundError: no such file, or no configuration near it.
        FileExistsError: ``out`` holds files.
        ValueError: not such a checkpoint, or one of a kind that cannot be read.
    """
    return token_files.convert(Path(checkpoint).expanduser(), Path(out).expanduser())

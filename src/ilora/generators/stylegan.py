"""StyleGAN 2, 2-ADA, 3 and XL. A code is one style a layer (W+); adapters change the affine maps that turn styles into
the scales of channels, as in the paper. Real pictures become codes by inversion, whose residual says what they lost."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora import generators
from ilora.adapters.lora import disabled
from ilora.config import Readout
from ilora.data.cache import content_hash
from ilora.generators import stylegan_files
from ilora.generators.checkpoints import fingerprint
from ilora.generators.inversion import Encoder, refine
from ilora.generators.objective import latent_loss
from ilora.generators.stylegan_files import Opened
from ilora.generators.stylegan_layers import Styles, truncate
from ilora.ops import resample
from ilora.records import Code, Image, Loss, Valid

AFFINE = r"synthesis\.(?!input\.).*\.?affine"  # not that of StyleGAN 3's input, which turns and moves the whole image
CONVOLUTION = r"synthesis\..*\.conv"
PIXELS = 2**20  # of pictures that are inverted at once: a StyleGAN 2 of 1024 px keeps 2.6 GiB an image
TARGETS = {
    "affine": AFFINE,
    "affine+conv": f"{AFFINE}|{CONVOLUTION}",
    "attention": AFFINE,  # a StyleGAN has none: the default set, under the names that presets ask for
    "attention+conv": AFFINE,
}


class StyleGAN:
    """See ``ilora.generators.base.Generator``. There is no text; a class is asked for by its number.

    Codes are styles [b, n, w], float32; targets are images.

    Attributes:
        encoder: of real pictures; None: ``encode`` refuses, unless ``inversion`` does without.
        inversion: how real pictures become codes; may be replaced before the first code is made.
    """

    def __init__(
        self, name: str, opened: Opened, readout: Readout, *, device: str | torch.device, dtype: torch.dtype
    ) -> None:
        self.name = name
        self.readout = readout
        self.network: nn.Module = opened.network.to(device, dtype)
        self.encoder: Encoder | None = None if opened.encoder is None else opened.encoder.to(device)
        self.inversion = opened.inversion
        self.shape = opened.network.shape
        self.resolution = self.shape.resolution
        self.targets: dict[str, str | list[str]] = dict(TARGETS)
        self._files = opened.files

    @cached_property
    def _content(self) -> str:
        return fingerprint(self._files)

    @property
    def fingerprint(self) -> str:
        """Hash of generator, encoder and the way pictures are inverted: codes depend on all three."""
        settings = json.dumps([self.shape.write(), self.inversion.write()], sort_keys=True)
        return content_hash(self._content, settings)[:32]

    def ask(self, prompt: str) -> None:
        """Nothing to condition: the class, where there are classes, is in the style."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Always the square that it paints: a picture of another aspect ratio is squeezed."""
        return self.resolution, self.resolution

    @torch.no_grad()
    def sample(
        self,
        seeds: Sequence[int],
        prompt: str | Sequence[str] = "",
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> tuple[Image, Code]:
        """Paint one image a seed, with the noise that belongs to the network.

        Args:
            seeds: noise is drawn by numpy's Mersenne Twister, so that a seed gives the image that it gives in NVIDIA's
                own programs.
            prompt: number of the class, one for all or one an image; empty: a class drawn with the seed.
            truncation: psi; below 1, images nearer to the mean one (of the class, for XL).
            cutoff: layers that are truncated, from the coarsest; None: all.

        Raises:
            ValueError: a seed of more than 32 bits, or no such class.
        """
        code = self.styles(seeds, prompt, truncation=truncation, cutoff=cutoff)
        with disabled(self.network):
            return self.forward(code).clamp(-1, 1), code

    @torch.no_grad()
    def styles(
        self,
        seeds: Sequence[int],
        prompt: str | Sequence[str] = "",
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> Styles:
        """Codes of ``sample`` alone."""
        if max(seeds, default=0) >= 2**32:
            raise ValueError(f"seeds of StyleGAN must be below 2^32, got {max(seeds)}; choose smaller ones")
        draws = [np.random.RandomState(seed) for seed in seeds]
        noise = np.stack([draw.randn(self.shape.mapping.z) for draw in draws])
        z = torch.from_numpy(noise).float().to(self._device)  # [b, z]
        classes = self._classes(draws, prompt)
        mapping = self.network.mapping
        style, centre = mapping(z, classes).float(), mapping.centre(classes).float()
        return truncate(style, centre, layers=self.shape.styles, psi=truncation, cutoff=cutoff)

    @torch.no_grad()
    def encode(self, image: Image) -> Code:
        """Styles whose picture is close to ``image``: the encoder's guess, refined by descent; deterministic.

        Raises:
            ValueError: there is no encoder.
        """
        config, wanted = self.inversion, self.target(image)
        with disabled(self.network), torch.autocast(self._device.type, enabled=False):
            mean: Styles = self.network.mapping.centre().float()[:, None]  # [1, 1, w]
            styles = mean.expand(len(wanted), self.shape.styles, -1)
            if config.encoder:
                styles = styles + self._encoder()(wanted)
            at_once = max(1, PIXELS // self.resolution**2)
            parts = zip(styles.split(at_once), wanted.split(at_once), strict=True)
            return torch.cat([refine(self.forward, begin, shown, config) for begin, shown in parts])

    def residual(self, image: Image, code: Code) -> Float[Tensor, "b 1 h w"]:
        """How far the picture that a code paints, unadapted, is from ``image``: mean absolute difference of the colours
        around each pixel, in units of [-1, 1]. What lies there the generator could not paint."""
        with torch.no_grad(), disabled(self.network), torch.autocast(self._device.type, enabled=False):
            painted, wanted = self.forward(code).clamp(-1, 1), self.target(image)
        off = (painted - wanted).abs().mean(1, keepdim=True)  # [b, 1, side, side]
        near = max(3, self.resolution // 32 * 2 + 1)  # a pixel's surroundings decide, not its noise
        off = nn.functional.avg_pool2d(off, near, stride=1, padding=near // 2, count_include_pad=False)
        return resample.resize(off, *image.shape[-2:])

    def target(self, image: Image) -> Code:
        """The image itself, at the size that it paints."""
        return resample.resize(image.to(self._device).float(), self.resolution, self.resolution)

    def decode(self, target: Code) -> Image:
        """The image: no codec stands between. What a StyleGAN cannot paint shows in ``residual``."""
        return target

    def forward(self, code: Code) -> Image:
        """Image of styles, float32, not clamped; gradients pass."""
        return self.network(code.to(self._device))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Mean squared error of the painted colours over valid pixels."""
        return latent_loss(self.forward(code), target.to(self._device), valid.to(self._device))

    @property
    def _device(self) -> torch.device:
        return self.network.mapping.fc0.weight.device

    def _classes(self, draws: list[np.random.RandomState], prompt: str | Sequence[str]) -> Int[Tensor, " b"] | None:
        """Class of each image; None for a generator without classes."""
        count = self.shape.mapping.classes
        if not count:
            return None
        words = [prompt] * len(draws) if isinstance(prompt, str) else list(prompt)
        chosen = []
        for draw, word in zip(draws, words, strict=True):
            if word and not (word.isdecimal() and int(word) < count):
                raise ValueError(f"prompt must be a class, from 0 to {count - 1}, got {word!r}; empty draws one")
            chosen.append(int(word) if word else int(draw.randint(count)))
        return torch.tensor(chosen, device=self._device)

    def _encoder(self) -> Encoder:
        if self.encoder is None:
            raise ValueError(
                f"{self.name} has no encoder of real pictures, got one to encode; train it once into its folder: "
                f"ilora zoo encoder FOLDER (a file first becomes a folder: ilora convert FILE --out FOLDER). "
                'Without: "inversion": {"encoder": false, "steps": 1000} in the folder\'s config.json, slower and worse'
            )
        return self.encoder


def recognises(name_or_path: str) -> bool:
    """Whether this family opens it: an embedded StyleGAN, a folder of ours, a .pkl or .pt file."""
    return stylegan_files.recognised(_path(name_or_path))


def load(name: str, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> StyleGAN:
    """Open an embedded generator, a folder or a file; ``readout`` is carried along and changes nothing."""
    return StyleGAN(name, stylegan_files.open_path(_path(name)), readout, device=device, dtype=dtype)


def convert(checkpoint: Path, out: Path) -> Path:
    """Read another program's checkpoint and write it as a folder of ours, safetensors and JSON.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a StyleGAN of a known layout, or damaged, or hostile.
    """
    read = stylegan_files.open_file(checkpoint)
    return stylegan_files.write(out, stylegan_files.assembled(read), origin=read.origin)


def _path(name: str) -> Path:
    return generators.WEIGHTS / name if name in generators.embedded() else Path(name).expanduser()

"""Diffusion transformers: Stable Diffusion 3 and 3.5, FLUX.1, FLUX.2, Qwen-Image, Z-Image, Sana and PixArt-Sigma.

All are pipelines of diffusers around one transformer that turns a latent at a time step into a velocity, or into noise.
One class serves them all: conditioning is captured from the stock pipeline and replayed (``conditioning.py``), and what
is left of a family is a row of a table (``flow_families.py``).
"""

import json
import math
import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.adapters.lora import disabled
from ilora.config import Readout
from ilora.generators import flow_families
from ilora.generators.checkpoints import (
    HUB_ID,
    LIBRARIES,
    aligned,
    codec_dtype,
    find_folder,
    fingerprint,
    part_files,
    quiet,
    read_json,
    read_weights,
    stock_class,
    tokenizer_files,
)
from ilora.generators.conditioning import Words, capture, expanded
from ilora.generators.flow_families import Family, fold, unfold
from ilora.generators.objective import latent_loss
from ilora.generators.readout import coefficients, flow_coefficients
from ilora.generators.sizes import nearest
from ilora.records import Code, Image, Loss, Valid

SIDE = 1024  # of the pictures of families whose files do not tell [px]
KEPT = 32  # sizes and prompts whose captured arguments stay in memory


class FlowMatching:
    """See ``ilora.generators.base.Denoiser``.

    Codes and targets are normalised latents [b, c, rows, columns], float32; FLUX.2's are folded: its cells are 16 px.

    Attributes:
        family: how its pipeline calls its denoiser.
        codec: of diffusers.
        pipeline: the stock pipeline around ``network`` and ``codec``, without text encoders.
        prompts: stands in for its text encoders, which are in memory only while there are new prompts.
        factor: side of a latent cell [px].
        readout: how the network's output becomes the clean latent; may be replaced at any time.
    """

    def __init__(
        self, name: str, folder: Path, readout: Readout, *, device: str | torch.device, dtype: torch.dtype
    ) -> None:
        """Open a diffusers folder; text encoders stay on the disk until a prompt is asked."""
        import diffusers

        self.name, self.readout = name, readout
        self._index = _index(folder)
        self.family = _family(name, self._index)
        network, codec = (getattr(diffusers, kind) for kind in (self.family.network, self.family.codec))
        self.network = aligned(read_weights(network, folder / "transformer", dtype).requires_grad_(False).to(device))
        self.codec = aligned(read_weights(codec, folder / "vae", codec_dtype(dtype)).requires_grad_(False).to(device))
        self._folder = folder
        self.pipeline = self._stock({"transformer": self.network.eval(), "vae": self.codec.eval()})
        self._side = int(self.pipeline.vae_scale_factor)  # of a cell of the codec [px]
        self.factor = self._side * (2 if self.family.folded else 1)
        self.resolution = self._trained_on()
        self.targets = self.family.targets(self.network)
        self.prompts = Words(self._texts, lambda: (self.fingerprint, *tokenizer_files(folder)))
        mean, deviation = self.family.statistics(self.codec)
        self._mean, self._deviation = mean.to(device), deviation.to(device)  # [c, 1, 1] or [1, 1, 1]
        self._prompt = ""
        self._captured: dict[tuple[Any, ...], dict[str, Any]] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights and configurations, read when first asked for."""
        return fingerprint(part_files(self._folder, ("transformer", "vae", "text_encoder*", "scheduler")))

    def ask(self, prompt: str) -> None:
        """Condition ``forward`` and ``loss`` on ``prompt`` from now on; before the first call it is the empty text."""
        self._prompt = prompt

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Sides as multiples of a token's with about the area of the training images; see ``nearest``."""
        step = math.lcm(self._side * self.family.patch, self.family.multiple)
        return nearest(height, width, resolution=self.resolution, step=step)

    def sample(
        self,
        seeds: Sequence[int],
        prompt: str | Sequence[str] = "",
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> tuple[Image, Code]:
        """Paint one image a seed with the stock pipeline; each seed's image is the same in any batch.

        Args:
            prompt: one for all images, or one an image.
            steps: of the denoiser; None: the pipeline's own.
            guidance: weight of the prompt, in the pipeline's own sense; None: the pipeline's own.

        Returns:
            Images [-1, 1] at the training resolution, and their latents.

        Raises:
            ValueError: neither one prompt nor as many as seeds.
        """
        words = [prompt] * len(seeds) if isinstance(prompt, str) else list(prompt)
        words = words * len(seeds) if len(words) == 1 else words
        if len(words) != len(seeds):
            raise ValueError(f"prompt must be one, or one for each of the {len(seeds)} seeds, got {len(words)}")
        options = self._options(self.resolution, self.resolution) | self.family.sampling | {"output_type": "latent"}
        options |= {} if steps is None else {"num_inference_steps": steps}
        options |= {} if guidance is None else {self.family.guidance[0]: guidance}
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.pipeline.encode_prompt = self.prompts.at(self.network)
        with torch.no_grad(), disabled(self.network):
            latents = self.pipeline(prompt=words, generator=draws, **options).images
            if self.family.folded and latents.ndim == 4:  # FLUX.2 Klein hands out the codec's own latents
                code = self._normalised(latents)
            else:
                code = self.family.packing.unpack(latents, *[self.resolution // self.factor] * 2).float()
            return self.decode(code).clamp(-1, 1), code

    @torch.no_grad()
    def encode(self, image: Image) -> Code:
        """Normalised latent of an image: the mean of the codec's distribution, never a draw from it."""
        weight = next(self.codec.parameters())
        picture = image.to(weight.device, weight.dtype)
        encoded = self.codec.encode(picture[:, :, None] if self.family.video else picture)  # [b, 3, 1, h, w] of a video
        latent = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
        return self._normalised(latent[:, :, 0] if self.family.video else latent)

    def target(self, image: Image) -> Code:
        """The same as ``encode``."""
        return self.encode(image)

    def decode(self, target: Code) -> Image:
        """Image of a normalised latent, float32, not clamped; gradients pass."""
        weight = next(self.codec.parameters())
        latent: Float[Tensor, "b c rows columns"] = target.to(weight.device).float() * self._deviation + self._mean
        latent = (unfold(latent) if self.family.folded else latent).to(weight.dtype)
        image = self.codec.decode(latent[:, :, None] if self.family.video else latent).sample
        return (image[:, :, 0] if self.family.video else image).float()  # [b, 3, h, w]

    def forward(self, code: Code) -> Image:
        """Image that one pass of the (adapted) network paints from a picture's latent; not clamped, gradients pass."""
        return self.decode(self.paint(code))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Mean squared error of the painted latent over valid cells; a readout of the wrong sign is told."""
        image, output = self.readout.image, self.readout.output
        if image == 0 and (output or 0) * (self.family.sign or 0) < 0:
            remedy = "take the readout flow_clean or auto"
            warnings.warn(f"{self.name} begins at the negative picture with x = {output:g} o; {remedy}", stacklevel=2)
        painted = self.paint(code)
        return latent_loss(painted, target.to(painted.device), valid.to(painted.device))

    def paint(self, code: Code) -> Float[Tensor, "b c rows columns"]:
        """The clean latent that the network's output stands for, x = image * z + output * o, float32."""
        if self.family.sign is None:
            image, output = coefficients(self.readout, self.pipeline.scheduler)
        else:
            image, output = flow_coefficients(self.readout, sign=self.family.sign)
        latent = code.to(next(self.network.parameters()).device)
        painted = self._network(latent, self.readout.timestep)
        return image * latent.float() + output * painted.float()

    def _normalised(self, latent: Tensor) -> Code:
        """The codec's own latent [b, c, rows, columns] as the network sees it, folded where it is."""
        return ((fold(latent) if self.family.folded else latent).float() - self._mean) / self._deviation

    def _network(self, latent: Float[Tensor, "b c rows columns"], timestep: float) -> Float[Tensor, "b c rows columns"]:
        """Output of the network in its own type, called as its pipeline calls it."""
        family, weight = self.family, next(self.network.parameters())
        batch, channels, rows, columns = latent.shape
        known = self._condition(rows * self.factor, columns * self.factor)
        given = {name: known[name] if name in family.unbatched else expanded(known[name], batch) for name in known}
        given[family.sample] = family.packing.pack(latent.to(weight.device, weight.dtype))
        time = family.clock(timestep, self.network.config)
        given[family.time] = torch.full((batch,), time, device=weight.device)  # [b]
        output = self.network(**given)[0]
        return family.packing.unpack(output, rows, columns)[:, :channels]  # a second half of channels is a variance

    def _condition(self, height: int, width: int) -> dict[str, Any]:
        """What the pipeline tells its denoiser for one image of this size [px], without latent and time."""
        weight = next(self.network.parameters())
        key = self._prompt, height, width, weight.device, weight.dtype
        if key not in self._captured:
            self.pipeline.encode_prompt = self.prompts.at(self.network)
            options = self._options(height, width) | dict([self.family.guidance]) | {"num_inference_steps": 1}
            arguments = capture(self.pipeline, self.network, {"prompt": self._prompt, **options})
            self.prompts.release()
            while len(self._captured) >= KEPT:
                self._captured.pop(next(iter(self._captured)))
            own = (self.family.sample, self.family.time, "return_dict")
            self._captured[key] = {name: value for name, value in arguments.items() if name not in own}
        return self._captured[key] | {"return_dict": False}

    def _options(self, height: int, width: int) -> dict[str, Any]:
        return {"height": height, "width": width, **self.family.options}

    def _trained_on(self) -> int:
        """Side of the pictures [px]: the transformer's own, else the codec's, else what is usual."""
        tokens, pixels = (getattr(part.config, "sample_size", None) for part in (self.network, self.codec))
        return tokens * self._side if tokens else pixels or SIDE

    def _stock(self, parts: dict[str, Any]) -> Any:
        """The stock pipeline of the folder with these parts instead of its own, and without text encoders."""
        empty = {name: None for name, value in self._index.items() if isinstance(value, list) and name != "scheduler"}
        return _open(self._folder, self._index, {**empty, **parts})

    def _texts(self) -> Any:
        """The stock pipeline with text encoders only, on the CPU: bfloat16 where they are stored so, else float32."""
        types = {"default": torch.float32}
        types |= {part: torch.bfloat16 for part in self._index if _stored_as_bfloat16(self._folder / part)}
        parts = {"transformer": None, "vae": None, "torch_dtype": types, "use_safetensors": True}
        return _open(self._folder, self._index, parts)


def recognises(name_or_path: str) -> bool:
    """Whether this is a pipeline of one of these families: a folder, a hub id in the local cache, or one known by name.

    Nothing is fetched.
    """
    path: Path | str | None = Path(name_or_path).expanduser() / "model_index.json"
    if not path.is_file() and re.fullmatch(HUB_ID, name_or_path):
        path = _cached(name_or_path)
        if path is None:
            return flow_families.of_hub_id(name_or_path) is not None
    if path is None or not Path(path).is_file():
        return False
    return flow_families.of_pipeline(json.loads(Path(path).read_text()).get("_class_name", "")) is not None


def load(name: str, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> FlowMatching:
    """Open a path or a hub id; see ``ilora.generators.load``."""
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError("diffusion transformers need diffusers: pip install 'ilora[diffusion]'") from error
    return FlowMatching(name, find_folder(name, ("transformer", "vae")), readout, device=device, dtype=dtype)


def _cached(name: str) -> str | None:
    """``model_index.json`` of a hub id in the local cache."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # without the library nothing is cached
        return None
    found = try_to_load_from_cache(name, "model_index.json")
    return found if isinstance(found, str) else None


def _index(folder: Path) -> dict[str, Any]:
    """``model_index.json``, whose parts must be of known libraries and kinds: diffusers imports what is named there."""
    index = read_json(folder / "model_index.json", folder)
    for part, value in index.items():
        if not isinstance(value, list):
            continue
        if len(value) != 2 or value[0] not in (*LIBRARIES, None):
            raise ValueError(f"{part} of {folder} must be a class of {' or '.join(LIBRARIES)}, got {value}")
        if value[0] is not None:
            stock_class(*value, f"{part} of {folder}")
    return index


def _family(name: str, index: dict[str, Any]) -> Family:
    kind = index.get("_class_name", "")
    family = flow_families.of_pipeline(kind)
    if family is None:
        known = ", ".join(pipeline for family in flow_families.FAMILIES for pipeline in family.pipelines)
        raise ValueError(f"{name}: the pipeline must be one of {known}, got {kind}; editing and control are of others")
    return family


def _open(folder: Path, index: dict[str, Any], options: dict[str, Any]) -> Any:
    """A stock pipeline, silent."""
    import diffusers

    with quiet():
        pipeline = getattr(diffusers, index["_class_name"]).from_pretrained(folder, local_files_only=True, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _stored_as_bfloat16(folder: Path) -> bool:
    """Whether a part's configuration says that its weights are bfloat16."""
    config = folder / "config.json"
    return config.is_file() and "bfloat16" in re.findall(r'"(?:torch_)?dtype": "(\w+)"', config.read_text())

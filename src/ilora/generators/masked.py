"""aMUSEd (Patil et al. 2024): a bidirectional transformer that fills in hidden tokens, after a prompt.

Every cell sees all others anyway, so that reading a picture takes one pass over its tokens, none of them hidden.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.generators.checkpoints import (
    codec_dtype,
    codec_factor,
    fingerprint,
    part_files,
    quiet,
    read_weights,
    tokenizer_files,
)
from ilora.generators.codebooks import Codebook
from ilora.generators.prompts import Condition, Encoder, Prompts
from ilora.generators.token_files import Parts, settled

ATTENTION = r"(.*\.)?to_(q|k|v|out\.0)"
TARGETS = {
    "attention": ATTENTION,  # of self- and cross-attention
    "attention+conv": ATTENTION,  # the same: its convolutions are one for each channel, which low rank cannot change
    "ff": r".*\.ff\.net\.(0\.proj|2)",
    "all": r"(?!.*depthwise).*",
}
AESTHETIC = 6  # the score that the released pipeline asks for
TEMPERATURE = (2, 0)  # of the choice which tokens stay, from the first step to the last, as there


class Masked:
    """``diffusers.UVit2DModel``; see ``ilora.generators.priors.Prior``."""

    fixed = False
    guidance = 10.0

    def __init__(self, network: nn.Module, prompts: Prompts, scheduler: Any, *, side: int) -> None:
        """Condition on the empty text.

        Args:
            scheduler: ``diffusers.AmusedScheduler``.
            side: of a token [px].
        """
        self.network, self.targets = network, dict(TARGETS)
        self.grid = (network.config.sample_size, network.config.sample_size)
        self._prompts, self._scheduler, self._side = prompts, scheduler, side
        self._asked: Condition | None = None

    def ask(self, prompt: str) -> None:
        """See ``ilora.generators.priors.Prior``."""
        self._asked = self._prompts(prompt)

    def read(self, tokens: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b k rows columns"]:
        """See ``ilora.generators.priors.Prior``."""
        if self._asked is None:
            self.ask("")
        return self._logits(tokens, self._asked)

    @torch.no_grad()
    def draw(
        self, seeds: Sequence[int], prompts: Sequence[str], *, steps: int, guidance: float
    ) -> Int[Tensor, "b rows columns"]:
        """See ``ilora.generators.priors.Prior``; one by one, because the scheduler draws from one source of numbers."""
        return torch.cat([self._draw(seed, text, steps, guidance) for seed, text in zip(seeds, prompts, strict=True)])

    def _draw(self, seed: int, prompt: str, steps: int, guidance: float) -> Int[Tensor, "1 rows columns"]:
        numbers, scheduler = torch.Generator().manual_seed(seed), self._scheduler
        condition = self._prompts.each([prompt] if guidance == 1 else [prompt, ""])
        device = next(self.network.parameters()).device
        scheduler.set_timesteps(steps, TEMPERATURE, device)
        tokens = torch.full((1, *self.grid), scheduler.config.mask_token_id, device=device)
        for time in scheduler.timesteps:
            logits = self._logits(tokens.expand(len(condition["pooled"]), -1, -1), condition)
            told, empty = logits[:1], logits[-1:]
            logits = told if guidance == 1 else empty + guidance * (told - empty)
            tokens = scheduler.step(logits, time, tokens, generator=numbers).prev_sample
        return tokens

    def _logits(self, tokens: Int[Tensor, "b rows columns"], condition: Condition) -> Float[Tensor, "b k rows columns"]:
        weight = next(self.network.parameters())
        batch, rows, columns = tokens.shape
        given = {
            name: tensor.to(weight.device, weight.dtype).expand(batch, *tensor.shape[1:])
            for name, tensor in condition.items()
        }  # [b, n, d] and [b, p]
        size = [columns * self._side, rows * self._side, 0, 0, AESTHETIC]  # width, height [px], corner, score
        return self.network(
            tokens,
            encoder_hidden_states=given["states"],
            pooled_text_emb=given["pooled"],
            micro_conds=torch.tensor([size], device=weight.device, dtype=weight.dtype).expand(batch, -1),
        ).float()


class _Prompts(Prompts):
    """Its one text encoder is read before the last layer, with its projected summary beside it."""

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> Condition:
        encoder = (self._encoders or self._load())[0]
        output = encoder.model(encoder.tokens(prompts), output_hidden_states=True)
        return {"states": output.hidden_states[-2], "pooled": output.text_embeds}  # [b, n, d], [b, p]


def read(folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> Parts:
    """Take a folder of ``AmusedPipeline`` apart.

    Raises:
        FileNotFoundError: a part is missing.
    """
    from diffusers import AmusedScheduler, UVit2DModel, VQModel

    codec = settled(read_weights(VQModel, folder / "vqvae", codec_dtype(dtype)), device, codec_dtype(dtype))
    network = settled(read_weights(UVit2DModel, folder / "transformer", dtype), device, dtype)
    files = part_files(folder, ("vqvae", "transformer", "text_encoder", "scheduler"))
    prompts = _Prompts(lambda: [_encoder(folder)], lambda: (fingerprint(files), *tokenizer_files(folder)))
    side = codec_factor(codec)
    prior = Masked(network, prompts, AmusedScheduler.from_pretrained(folder / "scheduler"), side=side)
    return Parts(Codebook(codec, side=side, unsigned=True), prior, prior.grid[0] * side, "readout", files)


def _encoder(folder: Path) -> Encoder:
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    with quiet():
        model = CLIPTextModelWithProjection.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, local_files_only=True
        )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return Encoder(tokenizer, model.eval().requires_grad_(False))

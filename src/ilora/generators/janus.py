"""Janus (Wu et al. 2024; Chen et al. 2025): a language model that goes on from words to the tokens of a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.generators.checkpoints import codec_dtype, quiet
from ilora.generators.codebooks import Codebook
from ilora.generators.priors import Causal
from ilora.generators.token_files import Parts, settled

ATTENTION = r".*\.self_attn\.(q|k|v|o)_proj"
TARGETS = {
    "attention": ATTENTION,
    "attention+conv": ATTENTION,  # the same: there are no convolutions
    "ff": r".*\.mlp\.(gate|up|down)_proj",
    "all": r".*",
}
TEMPLATE = "<|User|>: {}\n\n<|Assistant|>:"  # of a turn in the conversations that it learned from
BEGIN = "<begin_of_image>"  # the token after which a picture comes


class Janus(Causal):
    """The language model of transformers' ``JanusForConditionalGeneration``; see ``ilora.generators.priors.Prior``.

    Adapters change the language model; the head over picture tokens and what embeds them stay frozen.
    """

    guidance = 5.0

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        """Take the parts that paint; those that look at pictures are left alone.

        Raises:
            ValueError: the tokenizer does not know where pictures begin.
        """
        begin = tokenizer.convert_tokens_to_ids(BEGIN)
        if begin is None or begin == tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer must know the token {BEGIN}, got {len(tokenizer)} tokens without it")
        cells = model.config.vq_config.num_patches
        super().__init__((cells, cells), model.config.vq_config.num_embeddings)
        self.network, self.targets = model.model.language_model, dict(TARGETS)
        self._table, self._aligner = model.model.generation_embeddings, model.model.generation_aligner
        self._head, self._tokenizer, self._begin = model.model.generation_head, tokenizer, begin

    @torch.no_grad()
    def draw(
        self, seeds: Sequence[int], prompts: Sequence[str], *, steps: int, guidance: float
    ) -> Int[Tensor, "b rows columns"]:
        """See ``ilora.generators.priors.Prior``; one by one, because prompts are of different lengths."""
        drawn = [
            super(Janus, self).draw([seed], [prompt], steps=steps, guidance=guidance)
            for seed, prompt in zip(seeds, prompts, strict=True)
        ]
        return torch.cat(drawn)

    def _start(self, prompts: Sequence[str]) -> Float[Tensor, "b p d"]:
        """The empty prompt is padding between the first token and the last, as long as the longest other."""
        first, fill = self._tokenizer.bos_token_id, self._tokenizer.pad_token_id
        rows = [self._tokenizer.encode(TEMPLATE.format(text), add_special_tokens=False) for text in prompts]
        length = max(map(len, rows))
        rows = [row if text else [] for row, text in zip(rows, prompts, strict=True)]
        rows = [[first, *[fill] * (length - len(row)), *row, self._begin] for row in rows]
        table: nn.Embedding = self.network.get_input_embeddings()
        return table(torch.tensor(rows, device=table.weight.device))

    def _embed(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return self._aligner(self._table(tokens))

    def _run(
        self, shown: Float[Tensor, "b m d"], *, last: int, places: Int[Tensor, " m"] | None = None, past: Any = None
    ) -> tuple[Float[Tensor, "b {last} _"], Any]:
        # A mask, though nothing is hidden: see ``ilora.generators.gpt.Gpt``.
        seen = None if places is None else torch.ones(shown.shape[:2], device=shown.device)
        output = self.network(
            inputs_embeds=shown,
            attention_mask=seen,
            position_ids=None if places is None else places[None],
            past_key_values=past,
            use_cache=places is None,
        )
        return self._head(output.last_hidden_state[:, -last:]).float(), output.past_key_values


def read(folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> Parts:
    """Take a folder of transformers' Janus apart.

    Raises:
        FileNotFoundError: it holds no weights.
        ValueError: a tokenizer of another model.
    """
    from transformers import AutoTokenizer, JanusForConditionalGeneration

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no weights (*.safetensors); expected a folder of transformers' Janus")
    with quiet():
        model = JanusForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    model = settled(model, device, dtype)
    codec = settled(model.model.vqmodel, device, codec_dtype(dtype))
    side = 2 ** (len(codec.config.channel_multiplier) - 1)
    prior = Janus(model, tokenizer)
    files.append(folder / "config.json")
    return Parts(Codebook(codec, side=side, unit=True), prior, prior.grid[0] * side, "readout", files)

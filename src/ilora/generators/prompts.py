"""Text to conditioning: one or two CLIP text encoders, on the CPU, in memory only while there are new prompts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Condition = dict[str, Tensor]  # "states" [1, n, d] for cross-attention; "pooled" [1, p] beside it for two encoders


@dataclass(frozen=True)
class Encoder:
    """A tokenizer with the text model that reads its tokens (transformers' CLIP classes)."""

    tokenizer: Any
    model: Any

    def tokens(self, prompt: str) -> Int[Tensor, "1 n"]:
        """Token numbers, padded or cut to the model's length."""
        length = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        encoded = self.tokenizer(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        rows = self.model.get_input_embeddings().num_embeddings
        if encoded.max() >= rows:
            raise ValueError(
                f"the tokenizer gave token {encoded.max()} for {prompt!r}, but the text encoder knows {rows} tokens; "
                "put the checkpoint's own tokenizer/ folder beside it"
            )
        return encoded


class Prompts:
    """Conditioning of prompts.

    Attributes:
        known: every prompt asked so far with its conditioning; a caller may fill it from its own cache.
    """

    def __init__(self, load: Callable[[], list[Encoder]]) -> None:
        self._load = load
        self._encoders: list[Encoder] | None = None
        self.known: dict[str, Condition] = {}

    def __call__(self, prompt: str) -> Condition:
        """Conditioning of one prompt, float32 on the CPU."""
        if prompt not in self.known:
            self._encoders = self._encoders or self._load()
            self.known[prompt] = _encode(self._encoders, prompt)
        return self.known[prompt]

    def release(self) -> None:
        """Free the text encoders; a new prompt loads them again."""
        self._encoders = None


@torch.no_grad()
def _encode(encoders: list[Encoder], prompt: str) -> Condition:
    """One encoder: its last states, normalised (SD 1.x, 2.x). Two: their last but one, side by side, and the second's
    projected summary (Podell et al. 2023, section 2.1)."""
    if len(encoders) == 1:
        return {"states": encoders[0].model(encoders[0].tokens(prompt)).last_hidden_state}  # [1, n, d]
    outputs = [encoder.model(encoder.tokens(prompt), output_hidden_states=True) for encoder in encoders]
    states: Float[Tensor, "1 n d"] = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return {"states": states, "pooled": outputs[-1].text_embeds}

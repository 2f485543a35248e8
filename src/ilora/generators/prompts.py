"""Text to conditioning: one or two CLIP text encoders, on the CPU, in memory only while there are new prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ilora.data.cache import Cache, Part

Condition = dict[str, Tensor]  # "states" [b, n, d] for cross-attention; "pooled" [b, p] beside it for two encoders


@dataclass(frozen=True)
class Encoder:
    """A tokenizer with the text model that reads its tokens (transformers' CLIP classes)."""

    tokenizer: Any
    model: Any

    def tokens(self, prompts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Token numbers, padded or cut to the model's length.

        Raises:
            ValueError: the tokenizer knows tokens that the model does not.
        """
        length = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        encoded = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        rows = self.model.get_input_embeddings().num_embeddings
        if encoded.max() >= rows:
            raise ValueError(
                f"the tokenizer gave token {encoded.max()} for {prompts[0]!r}, but the text encoder knows {rows} "
                "tokens; put the checkpoint's own tokenizer/ folder beside it"
            )
        return encoded


class Prompts:
    """Conditioning of prompts, float32 on the CPU."""

    def __init__(self, load: Callable[[], list[Encoder]], key: Callable[[], Sequence[Part]]) -> None:
        """Nothing is loaded yet.

        Args:
            load: the text encoders.
            key: all that conditioning depends on besides the prompt.
        """
        self._load, self._key = load, key
        self._encoders: list[Encoder] | None = None
        self._known: dict[str, Condition] = {}

    def __call__(self, prompt: str) -> Condition:
        """Conditioning of one prompt, from the disk cache if it is there; the text encoders do not stay in memory."""
        if prompt not in self._known:
            made = Cache().get("prompt", *self._key(), prompt, make=lambda: self._encode([prompt]))
            # In memory of its own: tensors read from a file begin anywhere, and kernels round by where they begin.
            self._known[prompt] = {name: tensor.clone() for name, tensor in made.items()}
        return self._known[prompt]

    def each(self, prompts: Sequence[str]) -> Condition:
        """Conditioning of several prompts, one row each; the text encoders stay for the next call."""
        self._encoders = self._encoders or self._load()
        return self._encode(prompts)

    def release(self) -> None:
        """Free the text encoders; the next new prompt loads them again."""
        self._encoders = None

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> Condition:
        """One encoder: its last states, normalised (SD 1.x, 2.x). Two: their last but one, side by side, and the
        second's projected summary (Podell et al. 2023, section 2.1)."""
        encoders = self._encoders or self._load()
        if len(encoders) == 1:
            return {"states": encoders[0].model(encoders[0].tokens(prompts)).last_hidden_state}  # [b, n, d]
        outputs = [encoder.model(encoder.tokens(prompts), output_hidden_states=True) for encoder in encoders]
        states: Float[Tensor, "b n d"] = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        return {"states": states, "pooled": outputs[-1].text_embeds}  # [b, n, d], [b, p]

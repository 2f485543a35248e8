"""GPT-2 over picture tokens, after a caption, a class or nothing: the second stage of VQGAN (Esser et al. 2021)."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.config import Configuration
from ilora.generators.priors import Causal

ATTENTION = r".*\.attn\.(c_attn|c_proj)"
FEED_FORWARD = r".*\.mlp\.(c_fc|c_proj)"


@dataclass(frozen=True, kw_only=True)
class Prefix(Configuration):
    """The tokens before a picture: a caption's words, cut or filled up to one length, then some that never change.

    A class is a caption of one word, its number; where all words are numbers, there is nothing else to ask for.
    """

    words: dict[str, Any] = field(default_factory=dict)  # their tokens; other words are passed over
    length: int = 0  # of a caption
    fill: int = 0  # token that stands where the caption has no more words
    start: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes there are; 0 for captions."""
        return len(self.words) if all(word.isdecimal() for word in self.words) else 0

    def tokens(self, prompts: Sequence[str]) -> Int[Tensor, "b p"]:
        """Prefixes of prompts; upper case and punctuation do not count. Of classes, the empty prompt is ``fill``.

        Raises:
            ValueError: no such class.
        """
        rows = []
        for prompt in prompts:
            if self.classes and prompt and prompt not in self.words:
                last = self.classes - 1
                raise ValueError(f"expected a class from 0 to {last} as the prompt, got {prompt!r}; give its number")
            found = [self.words[word] for word in re.findall(r"\w+", prompt.lower()) if word in self.words]
            caption = [*found, *[self.fill] * self.length][: self.length]
            rows.append([*caption, *self.start])
        return torch.tensor(rows, dtype=torch.long)


class Gpt(Causal):
    """transformers' ``GPT2LMHeadModel``; see ``ilora.generators.priors.Prior``."""

    def __init__(self, network: nn.Module, prefix: Prefix, *, grid: tuple[int, int], size: int) -> None:
        """Take the network over: its transposed layers become linear ones, which adapters know.

        Raises:
            ValueError: it knows fewer positions than a prefix and a picture need, or not all tokens.
        """
        config, tokens = network.config, grid[0] * grid[1]
        needed = prefix.length + len(prefix.start) + tokens - 1  # the last token is never read
        highest = max([size - 1, prefix.fill, *prefix.start, *prefix.words.values()])
        if config.n_positions < needed or config.vocab_size <= highest:
            raise ValueError(
                f"the prior must know {needed} positions and token {highest}, "
                f"got {config.n_positions} positions and {config.vocab_size} tokens"
            )
        super().__init__(grid, size, config.n_positions)
        self.network, self._prefix = _linear(network), prefix
        self.targets = {"attention": ATTENTION, "attention+conv": ATTENTION, "ff": FEED_FORWARD, "all": r".*"}

    def ask(self, prompt: str) -> None:
        """See ``Prior``. A prior of classes has no words for an intrinsic: whatever is no class leaves it at ``fill``,
        which is class 0."""
        super().ask(prompt if not self._prefix.classes or prompt in self._prefix.words else "")

    def draw(
        self, seeds: Sequence[int], prompts: Sequence[str], *, steps: int, guidance: float
    ) -> Int[Tensor, "b rows columns"]:
        """See ``Prior``; of classes, the empty prompt draws one with the seed.

        Raises:
            ValueError: no such class, or guidance of classes, which have no empty one to be weighed against.
        """
        if count := self._prefix.classes:
            if guidance != 1:
                raise ValueError(f"guidance must be 1 for a prior of classes, got {guidance:g}; leave it out")
            # Python's own generator, because torch's begins with the number that the first token is drawn by.
            drawn = [str(random.Random(seed).randrange(count)) for seed in seeds]
            prompts = [prompt or word for prompt, word in zip(prompts, drawn, strict=True)]
        return super().draw(seeds, prompts, steps=steps, guidance=guidance)

    def _start(self, prompts: Sequence[str]) -> Float[Tensor, "b p d"]:
        table: nn.Embedding = self.network.transformer.wte
        return table(self._prefix.tokens(prompts).to(table.weight.device))

    def _embed(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return self.network.transformer.wte(tokens)

    def _run(
        self, shown: Float[Tensor, "b m d"], *, last: int, places: Int[Tensor, " m"] | None = None, past: Any = None
    ) -> tuple[Float[Tensor, "b {last} _"], Any]:
        # A mask, though nothing is hidden: without one transformers takes positions that begin again for two texts
        # packed into one row, and lets the second copy see nothing of the first.
        seen = None if places is None else torch.ones(shown.shape[:2], device=shown.device)
        output = self.network(
            inputs_embeds=shown,
            attention_mask=seen,
            position_ids=None if places is None else places[None],
            past_key_values=past,
            use_cache=places is None,
            logits_to_keep=last,
        )
        return output.logits.float(), output.past_key_values


def _linear(network: nn.Module) -> nn.Module:
    """Replace transformers' ``Conv1D``, a linear layer with its weight transposed, by ``nn.Linear`` of the same map."""
    from transformers.pytorch_utils import Conv1D

    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if not isinstance(layer, Conv1D):
                continue
            inputs, outputs = layer.weight.shape
            with torch.device("meta"):
                made = nn.Linear(inputs, outputs, dtype=layer.weight.dtype)
            made.weight = nn.Parameter(layer.weight.data.T.contiguous(), requires_grad=False)  # [o, i]
            made.bias = nn.Parameter(layer.bias.data, requires_grad=False)
            setattr(parent, name, made)
    return network

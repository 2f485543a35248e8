"""Transformers over the tokens of a picture: what follows what (causal) or what is hidden (masked).

Each kind answers the same three questions: which distribution it reads off a whole picture in one parallel pass, which
pictures it draws by itself, and which of its layers adapters change.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@runtime_checkable
class Prior(Protocol):
    """A transformer that knows pictures as grids of tokens.

    Attributes:
        network: what adapters change.
        targets: named sets of its layers, see ``ilora.generators.base.Generator``.
        grid: (rows, columns) of the pictures that it draws.
        fixed: it reads no other grid.
        guidance: weight of the prompt against the empty one that its authors draw with; 1 leaves it out.
    """

    network: nn.Module
    targets: dict[str, str | list[str]]
    grid: tuple[int, int]
    fixed: bool
    guidance: float

    def ask(self, prompt: str) -> None:
        """Condition ``read`` on ``prompt`` from now on; before the first call it is the empty text."""
        ...

    def read(self, tokens: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b k rows columns"]:
        """Logits over the codebook at every cell, each of which sees the whole picture; one pass, gradients pass."""
        ...

    def draw(
        self, seeds: Sequence[int], prompts: Sequence[str], *, steps: int, guidance: float
    ) -> Int[Tensor, "b rows columns"]:
        """A picture a seed; the same in any batch.

        Args:
            prompts: one a seed.
            steps: of a masked transformer; a causal one takes one a token.
            guidance: weight of the prompt against the empty one; 1 leaves it out.
        """
        ...


class Causal(ABC):
    """A transformer that predicts each token from those before it, row by row; see ``Prior``.

    **Reading.** Under a causal mask a cell knows nothing of what comes after it. So the picture is shown twice: prefix,
    t1 .. tn, then the prefix's last token and t1 .. t(n-1) again, where the network is asked for t1 .. tn as when it
    learned, but has seen them all. The second copy has the positions of the first, because the network knows no others;
    tn, after which nothing was ever predicted, may have to share a position with t(n-1).
    """

    network: nn.Module
    targets: dict[str, str | list[str]]
    fixed = True
    guidance = 1.0

    def __init__(self, grid: tuple[int, int], size: int, places: int | None = None) -> None:
        """Condition on the empty text.

        Args:
            grid: (rows, columns) of a picture.
            size: entries of the codebook; logits of further tokens are cut off.
            places: positions that the network knows; None: any number.
        """
        self.grid, self._size, self._places = grid, size, places
        self._prompt = ""

    def ask(self, prompt: str) -> None:
        """See ``Prior``."""
        self._prompt = prompt

    def read(self, tokens: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b k rows columns"]:
        """See ``Prior``."""
        start, row = self._start([self._prompt]).expand(len(tokens), -1, -1), tokens.flatten(1)
        picture = self._embed(row)  # [b, n, d]
        p, n = start.shape[1], row.shape[1]
        shown = torch.cat([start, picture, start[:, -1:], picture[:, :-1]], 1)  # [b, p + 2 n, d]
        places = torch.cat([torch.arange(p + n), torch.arange(p - 1, p + n - 1)])
        places = places.clamp(max=(self._places or p + n) - 1).to(row.device)
        logits, _ = self._run(shown, last=n, places=places)
        return logits[..., : self._size].mT.unflatten(2, tokens.shape[1:])  # [b, k, rows, columns]

    @torch.no_grad()
    def draw(
        self, seeds: Sequence[int], prompts: Sequence[str], *, steps: int, guidance: float
    ) -> Int[Tensor, "b rows columns"]:
        """See ``Prior``; token by token, by inverting each one's cumulative distribution, in float64 on the CPU."""
        words = list(prompts) if guidance == 1 else [*prompts, *("" for _ in prompts)]
        given, past, row = self._start(words), None, []
        count = self.grid[0] * self.grid[1]
        numbers = torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        for number in numbers.double().T:  # [b], one for each cell
            logits, past = self._run(given, last=1, past=past)
            logits = logits[:, -1, : self._size].cpu().double()
            if guidance != 1:
                told, empty = logits.chunk(2)
                logits = empty + guidance * (told - empty)
            heights = logits.softmax(-1).cumsum(-1)  # [b, k]
            token = torch.searchsorted(heights, number[:, None] * heights[:, -1:], right=True).clamp(max=self._size - 1)
            row.append(token.to(given.device))  # [b, 1]
            given = self._embed(row[-1] if guidance == 1 else row[-1].repeat(2, 1))
        return torch.cat(row, 1).unflatten(1, self.grid)

    @abstractmethod
    def _start(self, prompts: Sequence[str]) -> Float[Tensor, "b p d"]:
        """Embedded tokens before the picture, as many for every prompt."""

    @abstractmethod
    def _embed(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Embedded tokens of a picture, without their positions."""

    @abstractmethod
    def _run(
        self, shown: Float[Tensor, "b m d"], *, last: int, places: Int[Tensor, " m"] | None = None, past: Any = None
    ) -> tuple[Float[Tensor, "b {last} _"], Any]:
        """Logits after the ``last`` inputs, float32, and what the network remembers (only if ``places`` is None)."""

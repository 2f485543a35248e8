"""The toy with ears: each prompt moves the latents that its transformer sees by a vector of its own."""

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.config import Readout
from ilora.data.cache import content_hash
from ilora.generators.toy import CHANNELS, Toy

NAME = f"{__name__}:Spoken"


class Spoken(Toy):
    """See ``ilora.generators.base.Generator``."""

    name = "spoken"

    def __init__(self, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> None:
        super().__init__(readout, device, dtype)
        self.ask("")

    def ask(self, prompt: str) -> None:
        """Condition on a direction that is drawn from the words."""
        drawn = torch.Generator().manual_seed(int(content_hash(prompt)[:15], 16))
        self._words = torch.randn(CHANNELS, 1, 1, generator=drawn) / 4

    def _paint(self, code: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        return super()._paint(code + self._words.to(code.device))

"""What takes its process with it."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ilora.generators.toy import Toy

ONCE = "ILORA_TEST_ONCE"  # names a file that the first one to die leaves


class Mortal(Toy):
    """The toy, but the process that is first to paint dies of it."""

    name = "mortal"

    def sample(self, seeds: Sequence[int], prompt: str | Sequence[str] = "") -> tuple[Tensor, Tensor]:
        flag = Path(os.environ[ONCE])
        if not flag.exists():
            flag.touch()
            os._exit(1)
        return super().sample(seeds, prompt)

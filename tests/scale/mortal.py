"""What takes its process with it."""

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tests.toy_teachers import Device

ONCE = "ILORA_TEST_ONCE"  # names a file that the first one to die leaves


class Mortal(Device):
    """``Bright``, but the process that is first to label dies of it."""

    def label(self, image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        flag = Path(os.environ[ONCE])
        if not flag.exists():
            flag.touch()
            os._exit(1)
        return super().label(image)


def poisonous() -> Callable[[str], bytes]:
    """Tasks said back, but one of them kills whoever touches it."""
    return lambda task: os._exit(1) if task == "poison" else task.encode()

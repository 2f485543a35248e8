from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from ilora.data.teachers import teacher
from ilora.data.teachers.base import Teacher
from tests import tiny_teachers


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, object]]:
    """Tiny checkpoints by name: the folder, and the library's own model or pipeline. No test may change them."""
    place = tmp_path_factory.mktemp("teachers")
    made: dict[str, tuple[Path, object]] = {
        name: (place / name, tiny_teachers.depth(name, place / name)) for name in tiny_teachers.MODELS
    }
    return made | {name: (place / name, tiny_teachers.marigold(name, place / name)) for name in tiny_teachers.PIPELINES}


@pytest.fixture(scope="session")
def folders(stock: dict[str, tuple[Path, object]]) -> dict[str, Path]:
    """The folders of ``stock``."""
    return {name: folder for name, (folder, _) in stock.items()}


@pytest.fixture(scope="session")
def own(folders: dict[str, Path]) -> Callable[[str], Teacher]:
    """The teacher in a folder of ``stock``, loaded once; no test may change it."""
    return cache(lambda name: teacher(str(folders[name])))


def picture(height: int, width: int, *, seed: int = 0) -> tuple[Image.Image, Tensor]:
    """A smooth picture as Pillow has it, and as teachers get it: [1, 3, h, w] in [-1, 1]."""
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    stored = (smooth * 255).round().to(torch.uint8)
    return Image.fromarray(stored[0].permute(1, 2, 0).numpy()), stored.float() / 255 * 2 - 1

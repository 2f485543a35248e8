import copy
from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel

from tests import tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Stable Diffusion 1.x in diffusers' layout, which no test may change."""
    made = tmp_path_factory.mktemp("sd")
    tiny.pipeline("1", made)
    return made


@pytest.fixture(scope="session")
def _loaded(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True).eval().requires_grad_(False)


@pytest.fixture
def unet(_loaded: UNet2DConditionModel) -> UNet2DConditionModel:
    """Its denoiser, new for each test."""
    return copy.deepcopy(_loaded)

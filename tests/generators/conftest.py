from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session", params=tiny.FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, object, Path]:
    """Family, stock diffusers pipeline and folder of a tiny random checkpoint."""
    folder = tmp_path_factory.mktemp(f"sd{request.param}")
    return request.param, tiny.pipeline(request.param, folder), folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Stable Diffusion 1.x in diffusers' layout, which no test may change."""
    made = tmp_path_factory.mktemp("first")
    tiny.pipeline("1", made)
    return made

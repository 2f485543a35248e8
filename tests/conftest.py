"""What all tests share: every annotation in ``ilora`` is executed, and nothing is written outside temporary folders."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests import typechecker

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
UNCHECKED = ("__init__", "config")  # no tensors; a configuration checks the types of its fields itself

PARTS = {f"ilora.{entry.stem}" for entry in (ROOT / "src" / "ilora").iterdir() if entry.stem not in UNCHECKED}
install_import_hook(sorted(PARTS), f"{typechecker.__name__}.check")


@pytest.fixture
def real() -> Path:
    """The folder of real images; the test is skipped where it is absent."""
    if not REAL.is_dir():
        pytest.skip("the real images are absent: expected them in ../shared/real beside the repository")
    return REAL


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test starts with an empty cache of its own."""
    monkeypatch.setenv("ILORA_CACHE", str(tmp_path / "cache"))

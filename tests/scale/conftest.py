"""One small Ray on this machine for all tests here, and pictures in the forms that it takes."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from ilora import cluster
from ilora.scale.bulk import RECORDS
from tests.scale.mortal import ONCE
from tests.test_predict import draw, picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Skipped where Ray or pyarrow is absent; yields the file that ``mortal.Mortal`` leaves."""
    for module in ("ray", "pyarrow", "pandas"):
        pytest.importorskip(module, reason=f"needs {module}: pip install 'ilora[ray]'")
    kept, threads = os.environ.get("PYTHONPATH"), torch.get_num_threads()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), kept)))
    torch.set_num_threads(1)
    os.environ[ONCE] = str(tmp_path_factory.mktemp("ray") / "died")  # workers see what was set before they began
    with cluster.joined("auto"):
        yield Path(os.environ.pop(ONCE))
    torch.set_num_threads(threads)
    os.environ.pop("PYTHONPATH")
    os.environ |= {"PYTHONPATH": kept} if kept is not None else {}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the toy's with random weights."""
    return draw(tmp_path_factory.mktemp("runs") / "normal", "normal")


def encoded(seed: int, *, height: int = 20, width: int = 24) -> bytes:
    """A PNG of noise."""
    pixels = ((picture(height, width, seed).movedim(0, -1) + 1) * 127.5).round().to(torch.uint8).numpy()
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png")
    return data.getvalue()


def read_tar(path: Path) -> dict[str, bytes]:
    """Members of a tar."""
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def tree(folder: Path) -> dict[str, bytes]:
    """Files of a folder, records left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and RECORDS not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lines(path: Path) -> list[dict]:
    """Rows of a log by name."""
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: str(row.get("name")))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures, two of one stem, and a broken one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "a.bmp", "b.png", "c.png", "d.png")):
        (folder / name).write_bytes(encoded(seed))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder

"""A sloping floor that a camera looks at, worked out with NumPy alone, and writers of what data sets store."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 80
NORMAL = np.array([0.1, 0.6, 0.8]) / np.sqrt(1.01)  # RUB: up, and towards the viewer
FAR = 2.0  # m, from the camera's centre to the plane


def rays(fx: float, fy: float) -> np.ndarray:
    """Points [h, w, 3] at planar depth 1, RUB, the optical axis through the middle; ``fx`` and ``fy`` in pixels."""
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / fx
    y = (HEIGHT / 2 - np.arange(HEIGHT) - 0.5) / fy
    return np.stack([*np.broadcast_arrays(x[None], y[:, None]), np.full((HEIGHT, WIDTH), -1.0)], -1)


def planar(fx: float = 72.0, fy: float = 72.0) -> np.ndarray:
    """Depth [h, w] of the floor along the optical axis [m]."""
    return -FAR / (rays(fx, fy) @ NORMAL)


def euclidean(fx: float = 72.0, fy: float = 72.0) -> np.ndarray:
    """Distance [h, w] of the floor from the camera's centre [m]."""
    return planar(fx, fy) * np.linalg.norm(rays(fx, fy), axis=-1)


def normals() -> np.ndarray:
    """The floor's normal at every pixel [h, w, 3], RUB."""
    return np.broadcast_to(NORMAL, (HEIGHT, WIDTH, 3)).copy()


def noise(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Bytes [h, w, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, values: np.ndarray) -> Path:
    """An array as the suffix says; floats in EXR, integers in PNG and JPEG, anything in NPY."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".exr":
        from ilora.images import exr

        exr.write(path, np.atleast_3d(values).astype(np.float32), {})
    elif values.dtype == np.uint16 and values.ndim == 3:
        from ilora.images import png

        path.write_bytes(png.encode(values, {}))
    else:
        Image.fromarray(values).save(path)
    return path


def hdf5(path: Path, **arrays: np.ndarray) -> Path:
    """Arrays by name; the test is skipped where h5py is absent."""
    import pytest

    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py: pip install 'ilora[benchmarks]'")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def dump(path: Path, values: np.ndarray, *, head: bytes = b"") -> Path:
    """32-bit floats row by row after ``head``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + values.astype("<f4").tobytes())
    return path

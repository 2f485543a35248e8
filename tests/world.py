"""A world that the toy learns in seconds: hollows in a grey wall under three coloured lamps, with all four maps."""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

LAMPS = torch.tensor([[0.6, 0.2, 0.6], [-0.6, 0.2, 0.6], [0.0, 0.6, 0.6]])  # direction of the red, green and blue lamp
META = '[split]\ntrain = ["train*"]\ntest = ["test*"]\n[depths]\nunit = "m"\n[shadings]\nspace = "linear"\n'


def hollow(x: float, y: float, *, height: int, width: int) -> dict[str, Tensor]:
    """Maps [c, h, w] of a paraboloid whose deepest point is at (x, y), in [-1, 1], 4 m away."""
    rows, columns = torch.meshgrid(torch.linspace(1, -1, height), torch.linspace(-1, 1, width), indexing="ij")
    normal = nn.functional.normalize(torch.stack([x - columns, y - rows, torch.full_like(rows, 1.5)]), dim=0)
    depth = 4 - ((columns - x) ** 2 + (rows - y) ** 2) / 3
    shading = torch.einsum("cn,nhw->chw", LAMPS, normal).clamp(min=0)
    return {"normals": normal, "depths": depth[None], "albedos": torch.full_like(normal, 0.8), "shadings": shading}


def write(folder: Path, *, train: int = 8, test: int = 5, square: bool = False) -> Path:
    """A data folder; every other test picture is upright, the rest are lying, unless all are ``square``, 32 x 32 px."""
    names = [*(f"train{index}" for index in range(train)), *(f"test{index}" for index in range(test))]
    for index, name in enumerate(names):
        x, y = torch.rand(2, generator=torch.Generator().manual_seed(index)).sub(0.5).mul(1.8).tolist()
        size = {"height": 36, "width": 28} if name.startswith("test") and index % 2 else {"height": 32, "width": 40}
        size = {"height": 32, "width": 32} if square else size
        maps = hollow(x, y, **size)
        linear = (maps["albedos"] * maps["shadings"]).clamp(0, 1)
        maps["images"] = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        for part, map in maps.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            rows_first = map.permute(1, 2, 0).numpy()
            if part == "images":
                Image.fromarray((rows_first * 255).round().astype(np.uint8)).save(folder / part / f"{name}.png")
            else:
                np.save(folder / part / f"{name}.npy", rows_first)
    (folder / "meta.toml").write_text(META)
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """A tar of these members."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path

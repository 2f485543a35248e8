"""Pictures and captions that generators learn from: webdataset shards in, arrays out. No intrinsic map is ever read."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image as Pillow
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Pictures held in memory, with the words and the renderer's factors that belong to them.

    Attributes:
        pixels: sRGB, 0 to 255.
        captions: one sentence a picture.
        factors: what the renderer was asked for, one dictionary of numbers a picture.
        seeds: scene seeds; sorted, so that the order does not depend on the shards.
    """

    pixels: UInt8[Tensor, "n 3 h w"]
    captions: list[str]
    factors: list[dict[str, float]]
    seeds: list[int]

    def __len__(self) -> int:
        return len(self.captions)

    def images(self, index: Tensor | slice) -> Float[Tensor, "b 3 h w"]:
        """Selected pictures in [-1, 1]."""
        return self.pixels[index].float() / 127.5 - 1

    def split(self, held_out: int) -> tuple["Pictures", "Pictures"]:
        """All but the last ``held_out`` pictures, and those."""
        cut = len(self) - held_out
        return self[:cut], self[cut:]

    def __getitem__(self, part: slice) -> "Pictures":
        return Pictures(self.pixels[part], self.captions[part], self.factors[part], self.seeds[part])


def moved(images: Float[Tensor, "b 3 h w"], most: int, numbers: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """A batch moved by up to ``most`` pixels down or up, right or left; what comes in is what lay inside the border."""
    h, w = images.shape[-2:]
    down, right = torch.randint(2 * most + 1, (2,), generator=numbers).tolist()
    return F.pad(images, (most,) * 4, mode="reflect")[:, :, down : down + h, right : right + w]


def read_pictures(folder: Path | str, *, limit: int | None = None, size: int | None = None) -> Pictures:
    """Read the shards that ``ilora scenes render --products picture`` wrote.

    Args:
        folder: holds ``*.tar`` shards of ``{seed}.png`` and ``{seed}.json``.
        limit: read no more pictures than this, in the order of their seeds.
        size: side that pictures are brought to, by the mean of whole cells of pixels [px]; None: as they are.

    Raises:
        ValueError: the folder holds no shard, pictures of several sizes, or of one that is no multiple of ``size``.
    """
    shards = sorted(Path(folder).glob("*.tar"))
    if not shards:
        raise ValueError(
            f"expected webdataset shards (*.tar) of pictures in {folder}, got none; "
            "make them: ilora scenes render --count 12000 --size 128 --out DIR"
        )
    rows: dict[int, tuple[np.ndarray, dict]] = {}
    for shard in shards:
        rows |= _read_shard(shard)
        if limit is not None and len(rows) >= limit:
            break
    seeds = sorted(rows)[:limit]
    sizes = {rows[seed][0].shape for seed in seeds}
    if len(sizes) != 1:
        raise ValueError(f"expected pictures of one size in {folder}, got {sorted(sizes)}; render them with one --size")
    pixels = (
        torch.from_numpy(np.stack([rows[seed][0] for seed in seeds])).permute(0, 3, 1, 2).contiguous()
    )  # [n, 3, h, w]
    stories = [rows[seed][1] for seed in seeds]
    if size is not None:
        pixels = _shrunk(pixels, size, folder)
    return Pictures(pixels, [s["caption"] for s in stories], [s["factors"] for s in stories], seeds)


def _shrunk(pixels: UInt8[Tensor, "n 3 h w"], size: int, folder: Path | str) -> UInt8[Tensor, "n 3 {size} {size}"]:
    """Means over cells, rounded; a few pictures at a time, to save memory."""
    h, w = pixels.shape[-2:]
    if h != w or h % size:
        raise ValueError(
            f"expected pictures of {size} px or a multiple of it in {folder}, got {w} x {h} px; "
            f"make them: ilora scenes render --count 12000 --size {size} --out DIR"
        )
    if h == size:
        return pixels
    parts = (F.avg_pool2d(part.float(), h // size).round().byte() for part in pixels.split(256))
    return torch.cat(list(parts))


def _read_shard(path: Path) -> dict[int, tuple[np.ndarray, dict]]:
    """Picture [h, w, 3] and story of each seed in one shard."""
    parts: dict[int, dict[str, bytes]] = {}
    with tarfile.open(path) as shard:
        for member in shard:
            stem, _, kind = member.name.partition(".")
            if kind in ("png", "json"):
                parts.setdefault(int(stem), {})[kind] = shard.extractfile(member).read()
    return {
        seed: (np.asarray(Pillow.open(io.BytesIO(part["png"])).convert("RGB")), json.loads(part["json"]))
        for seed, part in parts.items()
    }

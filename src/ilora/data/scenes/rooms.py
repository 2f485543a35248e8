"""The benchmark "rooms": labelled scenes of each split in one small file, and its reader.

A split is an .npz of three arrays: `blocks`, the files of all scenes one after another (three for each: see encode());
`ends` [scenes, 3], where each ends; `records`, JSON with seed, caption, factors and camera of each scene.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np

from ilora.data.scenes import codings, writer
from ilora.data.scenes.sampling import sample_scene
from ilora.data.scenes.scene import SPLITS, split_seeds

COUNTS = {"labelled": 250, "validation": 50, "test": 150}
BITS = {"normal": 12, "depth": 14, "albedo": 8, "shading": 9}
PLANES = 7  # normal 2, depth 1, shading 3, valid 1
TOGETHER = 50  # scenes that are unpacked at a time


@dataclass(frozen=True)
class Rooms:
    """One scene of the benchmark. Axes, units and spaces as in render()."""

    image: np.ndarray  # [h, w, 3] uint8 sRGB, exact
    normal: np.ndarray  # [h, w, 3] float32 unit; x right, y up, z towards the camera
    depth: np.ndarray  # [h, w] float32 planar z [m]
    albedo: np.ndarray  # [h, w, 3] float32 linear
    shading: np.ndarray  # [h, w, 3] float32 linear, in the picture's exposure
    valid: np.ndarray  # [h, w] bool
    camera: np.ndarray  # [3, 3] pixels
    caption: str
    factors: dict[str, float]
    seed: int


def _predicted(albedo: np.ndarray, shading: np.ndarray) -> np.ndarray:
    """The picture of the purely diffuse light, int32 0..255; through a table, so that every machine rounds alike."""
    linear = (np.arange(4096) + 0.5) / 4096
    table = np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
    light = albedo.astype(np.float64) * shading.astype(np.float64)
    return table.astype(np.int32)[np.minimum(light * 4096, 4095).astype(np.int32)]


def _apart(rgb: np.ndarray) -> np.ndarray:
    """Integers [h, w, 3] to green, red - green, blue - green [3, h, w]."""
    r, g, b = np.moveaxis(rgb.astype(np.int32), -1, 0)
    return np.stack([g, r - g, b - g])


def _joined(planes: np.ndarray) -> np.ndarray:
    """Inverse of _apart()."""
    g, r, b = planes
    return np.stack([r + g, g, b + g], -1)


def encode(scene: dict) -> tuple[bytes, bytes, bytes]:
    """The maps of render(): packed integer planes, and albedo and picture as lossless WebP."""
    normal = codings.encode_normal(scene["normal"], BITS["normal"])
    depth = codings.encode_depth(scene["depth"], BITS["depth"])
    albedo = codings.encode_albedo(scene["albedo"], BITS["albedo"])
    shading = codings.encode_shading(scene["shading"], BITS["shading"])
    # The picture is stored as its difference from albedo * shading, which is small wherever nothing is glossy.
    diffuse = _predicted(
        codings.decode_albedo(albedo, BITS["albedo"]), codings.decode_shading(shading, BITS["shading"])
    )
    planes = [np.moveaxis(normal, -1, 0), depth[None], _apart(shading), scene["valid"][None]]
    packed = codings.pack(np.concatenate([p.astype(np.int32) for p in planes]))
    return (
        packed,
        codings.write_webp(albedo.astype(np.uint8)),
        codings.write_webp((scene["image"] - diffuse).astype(np.uint8)),
    )


def decode(planes: np.ndarray, albedo: bytes, picture: bytes) -> dict[str, np.ndarray]:
    """Unpacked planes [7, h, w] and the two WebP files of one scene back to its maps."""
    reflected = codings.decode_albedo(codings.read_webp(albedo), BITS["albedo"])
    shading = codings.decode_shading(_joined(planes[3:6]), BITS["shading"])
    return {
        "image": (codings.read_webp(picture) + _predicted(reflected, shading)).astype(np.uint8),  # modulo 256
        "normal": codings.decode_normal(np.moveaxis(planes[:2], 0, -1), BITS["normal"]),
        "depth": codings.decode_depth(planes[2], BITS["depth"]),
        "albedo": reflected,
        "shading": shading,
        "valid": planes[6] > 0,
    }


def read_rooms(path: str | Path, limit: int | None = None) -> Iterator[Rooms]:
    """Scenes of a split's file in the order of their seeds, at most `limit`."""
    if not Path(path).is_file():
        raise ValueError(f"a file of rooms expected, got {path}; `ilora scenes` or the package's data/rooms has them")
    with np.load(path, allow_pickle=False) as data:
        blocks, ends, records = data["blocks"].tobytes(), data["ends"].tolist(), json.loads(data["records"].tobytes())
    total = len(records["scenes"]) if limit is None else min(limit, len(records["scenes"]))
    files = [[blocks[a:b] for a, b in pairwise(row)] for row in _starts(ends)]
    for first in range(0, total, TOGETHER):
        chunk = files[first : min(first + TOGETHER, total)]
        planes = codings.unpack([packed for packed, _, _ in chunk], (PLANES, records["size"], records["size"]))
        for i, (_, albedo, picture) in enumerate(chunk):
            record = records["scenes"][first + i]
            yield Rooms(**decode(planes[i], albedo, picture), **{**record, "camera": np.array(record["camera"])})


def _starts(ends: list[list[int]]) -> list[list[int]]:
    """Where a scene's first file starts, and where its three files end."""
    return [[before[-1], *row] for before, row in zip([[0], *ends], ends, strict=False)]


def _job(seed: int, *, size: int, samples: int) -> tuple[tuple[bytes, bytes, bytes], dict, dict]:
    from ilora.data.scenes.rendering import render

    begin = time.process_time()
    scene = render(sample_scene(seed), size, samples)
    seconds = time.process_time() - begin
    packed, *pictures = encode(scene)
    record = {
        "seed": seed,
        "caption": scene["caption"],
        "factors": {name: round(value, 4) for name, value in scene["factors"].items()},
        "camera": np.round(scene["camera"], 4).tolist(),
    }
    planes = codings.unpack([packed], (PLANES, size, size))[0]
    return (packed, *pictures), record, {**rounding(scene, decode(planes, *pictures)), "core_seconds": seconds}


def rounding(scene: dict, decoded: dict) -> dict[str, float]:
    """Largest errors of the stored maps over the valid pixels, in the units of the name; the share that is clipped."""
    valid = scene["valid"]

    kept = valid[..., None] & (scene["shading"] <= codings.SHADING_TOP)
    shading = np.abs(decoded["shading"] - scene["shading"]) / (scene["shading"] + codings.SHADING_KNEE)
    cross = np.linalg.norm(np.cross(decoded["normal"].astype(float), scene["normal"]), axis=2)[valid]
    return {
        "image_levels": float(np.abs(decoded["image"].astype(int) - scene["image"]).max()),
        "normal_degrees": float(np.degrees(np.arcsin(cross.max(initial=0)))),
        "depth_ratio": float((np.abs(decoded["depth"] / scene["depth"] - 1)[valid]).max(initial=0)),
        "albedo": float(np.abs(decoded["albedo"] - scene["albedo"])[valid].max(initial=0)),
        "shading_ratio": float(shading[kept].max(initial=0)),  # of s + 1/64
        "shading_clipped": float(1 - kept[valid].mean()) if valid.any() else 0.0,  # share of values over 64, at lamps
    }


def write_rooms(
    out: str | Path, *, size: int = 128, samples: int = 48, workers: int = 2, counts: dict | None = None
) -> dict:
    """Render the benchmark into `out`: {split}.npz for each split that is missing, and card.json; returns the card.

    Args:
        counts: scenes for each split; 250 labelled, 50 validation and 150 test by default.
    """
    out, splits = Path(out), {}
    for split, count in (counts or COUNTS).items():
        path = out / f"{split}.npz"
        if not path.exists():
            _write_split(path, split_seeds(split, 0, count), partial(_job, size=size, samples=samples), workers)
        with np.load(path, allow_pickle=False) as data:
            about = json.loads(data["records"].tobytes())
        splits[split] = {
            **about["about"],
            "scenes": len(about["scenes"]),
            "bytes": path.stat().st_size,
            "first_seed": SPLITS[split].start,
        }
    card = {"name": "rooms", "size": size, "samples": samples, "bits": BITS, "splits": splits}
    writer.save(out / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    return card


def _write_split(path: Path, seeds: range, job, workers: int) -> None:
    done = []
    for seed, result in writer.parallel(job, seeds, workers):
        if isinstance(result, str):
            raise RuntimeError(f"scene {seed} of the benchmark failed: {result}")
        done.append(result)
    blocks, records, notes = zip(*done, strict=True)
    seconds = float(np.median([note.pop("core_seconds") for note in notes]))
    rate = {"core_seconds_a_scene": round(seconds, 3), "scenes_an_hour_on_two_cores": round(7200 / seconds)}
    about = {**rate, "rounding": {name: max(note[name] for note in notes) for name in notes[0]}}
    text = json.dumps({"size": job.keywords["size"], "about": about, "scenes": records}).encode()
    joined, ends = b"".join(b"".join(block) for block in blocks), np.cumsum([len(b) for block in blocks for b in block])
    arrays = {"blocks": np.frombuffer(joined, np.uint8), "records": np.frombuffer(text, np.uint8)}
    buffer = BytesIO()
    np.savez_compressed(buffer, ends=ends.reshape(-1, 3), **arrays)
    writer.save(path, buffer.getvalue())

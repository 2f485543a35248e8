"""Arrange the real images of ``../shared/real`` as folders that ``ilora.data.dataset`` reads.

    python benchmarks/real_folders.py SOURCE TARGET

Conventions, licences and camera constants are those of the READMEs beside the files. ``axes`` compares measured normals
with those that follow from the same frame's depth: if an axis were wrong, they would be far apart.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow

from ilora.data import dataset
from ilora.ops import geometry

ICL_META = """
[normals]  # derived from the depths
axes = "RUB"
invalid = [0, 0, 0]
[depths]
unit = "mm"
invalid = 0
[split]  # one room, filmed: the test frames are those seen last
train = ["000*", "0010*", "0011*", "0012*"]
validation = ["0013*", "0014*"]
test = ["0015*", "0016*", "0017*", "0018*", "0019*", "002*"]
"""

CLEARGRASP_META = """
[normals]
axes = "RUB"
invalid = [-1, -1, -1]
[depths]
unit = "m"
invalid = [0, nan]
[split]
train = ["synthetic-*", "real-000000080"]
validation = ["real-000000123"]
test = ["real-000000130", "real-000000153"]
"""

SINTEL_META = """
[albedos]
space = "srgb"
invalid = 0
[shadings]
space = "srgb"
[depths]
unit = "relative"
[split]
train = {train}
test = {test}
"""

MOTORCYCLE_META = """
[depths]
unit = "m"
invalid = [nan, inf]
[split]
test = ["*"]
"""

SINTEL_HALVES = (["0001", "0004"], ["0008", "0010"])  # frames, all of different scenes
SKY = 1e6  # depth beyond which a Sintel frame shows the sky, which is not measured
FOCAL, BASELINE, OFFSET = 994.978, 193.001, 31.086  # px, mm, px: of the Motorcycle pair
ICL_CAMERA = [[525.0, 0, 320], [0, 525.0, 240], [0, 0, 1]]  # px, the first pixel's centre at (0.5, 0.5)
CLEARGRASP_FOCAL = 960 / math.tan(math.radians(69.4 / 2))  # px, of the synthetic frames, 1920 px wide
CLEARGRASP_CAMERAS = {
    "synthetic": [[CLEARGRASP_FOCAL, 0, 960], [0, CLEARGRASP_FOCAL, 540], [0, 0, 1]],
    "real": [[921.0, 0, 642.5], [0, 921.0, 359.5], [0, 0, 1]],
}
REACH = 4  # px, half width of the stencil that normals are derived with: depth is stored in millimetres or half floats


def icl_livingroom(source: Path, target: Path) -> Path:
    """22 frames of one synthetic room with depth in millimetres, and normals derived from it."""
    for picture in sorted((source / "icl_livingroom/image").glob("*.jpg")):
        _link(picture, target / "images" / picture.name)
        stored = source / "icl_livingroom/depth" / f"{picture.stem}.png"
        _link(stored, target / "depths" / stored.name)
        depth = torch.from_numpy(np.asarray(Pillow.open(stored)).astype(np.float32) / 1000)[
            None, None
        ]  # [1, 1, h, w] m
        normal, known = _derived(depth, depth > 0, ICL_CAMERA)
        (target / "normals").mkdir(parents=True, exist_ok=True)
        np.save(target / "normals" / f"{picture.stem}.npy", (normal * known)[0].movedim(0, -1).numpy())  # [h, w, 3]
    return _declare(target, ICL_META)


def cleargrasp(source: Path, target: Path) -> Path:
    """4 real and 3 synthetic pictures of transparent objects with normals and depth, EXR."""
    synthetic = source / "cleargrasp/synthetic-val/square-plastic-bottle-val"
    for picture in sorted((synthetic / "rgb-imgs").glob("*.jpg")):
        number = picture.stem.removesuffix("-rgb")
        depth = synthetic / "depth-imgs-rectified" / f"{number}-depth-rectified.exr"
        _example(
            target, f"synthetic-{number}", picture, synthetic / "camera-normals" / f"{number}-cameraNormals.exr", depth
        )
    real = source / "cleargrasp/real-val/d435"
    for picture in sorted(real.glob("*-opaque-rgb-img.jpg")):
        number = picture.stem.removesuffix("-opaque-rgb-img")
        depth = real / f"{number}-opaque-depth-img.exr"
        _example(target, f"real-{number}", picture, real / f"{number}-normals.exr", depth)
    return _declare(target, CLEARGRASP_META)


def sintel(source: Path, target: Path, *, reverse: bool = False) -> Path:
    """4 frames of a film with albedo, shading and depth in the film's units; depth needs scipy.

    Args:
        reverse: learn from the second two frames and test on the first two, instead of the other way round.
    """
    from scipy.io import loadmat

    for picture in sorted((source / "sintel_sparseintrinsic").glob("image*.png")):
        number = picture.stem.removeprefix("image")
        _link(picture, target / "images" / f"{number}.png")
        for kind in ("albedo", "shading"):
            _link(picture.with_name(f"gt_{kind}{number}.png"), target / f"{kind}s" / f"{number}.png")
        depth = loadmat(picture.with_name(f"Z{number}.mat"))["Z"]
        (target / "depths").mkdir(parents=True, exist_ok=True)
        np.save(target / "depths" / f"{number}.npy", np.where(depth > SKY, 0, depth).astype(np.float32))
    train, test = reversed(SINTEL_HALVES) if reverse else SINTEL_HALVES
    return _declare(target, SINTEL_META.format(train=train, test=test))


def sintel_reversed(source: Path, target: Path) -> Path:
    """``sintel`` with training and test frames exchanged."""
    return sintel(source, target, reverse=True)


def motorcycle(source: Path, target: Path) -> Path:
    """The left picture of a stereo pair with depth from its disparity."""
    folder = source / "middlebury_motorcycle"
    _link(folder / "motorcycle_left.png", target / "images/motorcycle.png")
    with np.load(folder / "motorcycle_disp.npz", allow_pickle=False) as file:
        disparity = file[file.files[0]]
    (target / "depths").mkdir(parents=True, exist_ok=True)
    depth = BASELINE * FOCAL / (np.where(np.isfinite(disparity), disparity, np.nan) + OFFSET) / 1000  # m
    np.save(target / "depths/motorcycle.npy", depth.astype(np.float32))
    return _declare(target, MOTORCYCLE_META)


FOLDERS = {
    "icl_livingroom": icl_livingroom,
    "cleargrasp": cleargrasp,
    "motorcycle": motorcycle,
    "sintel": sintel,
    "sintel_reversed": sintel_reversed,
}


def arrange(source: Path, target: Path) -> dict[str, Path]:
    """All of ``FOLDERS`` under ``target``, by name."""
    return {name: make(source, target / name) for name, make in FOLDERS.items()}


def axes(folder: Path) -> dict[str, float]:
    """Median angle [deg] between the normals of each ClearGrasp frame and those that follow from its own depth."""
    normals = dataset(str(folder), intrinsic="normal", split="all", on_problem="skip")
    depths = dataset(str(folder), intrinsic="depth", split="all", on_problem="skip")
    found = {}
    for name in sorted({*normals.names} & {*depths.names}):
        measured, depth = (each[each.names.index(name)] for each in (normals, depths))
        derived, known = _derived(depth.map[None], depth.valid[None], CLEARGRASP_CAMERAS[name.partition("-")[0]])
        both = known & measured.valid[None]
        found[name] = float(geometry.angle(derived, measured.map[None])[both].median())
    return found


def _derived(depth: torch.Tensor, valid: torch.Tensor, camera: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Normals [1, 3, h, w], RUB, of planar depth [1, 1, h, w], and where they mean something [1, 1, h, w]."""
    known = geometry.smooth(depth, valid, reach=REACH)
    filled = torch.where(valid, depth, depth[valid].mean())
    return geometry.normals_from_depth(filled, torch.tensor([camera]), reach=REACH), known


def _example(target: Path, name: str, picture: Path, normal: Path, depth: Path) -> None:
    """Links to the three files of one example."""
    _link(picture, target / "images" / f"{name}.jpg")
    _link(normal, target / "normals" / f"{name}.exr")
    _link(depth, target / "depths" / f"{name}.exr")


def _link(file: Path, name: Path) -> None:
    """``name`` becomes a link to ``file``."""
    name.parent.mkdir(parents=True, exist_ok=True)
    name.unlink(missing_ok=True)
    name.symlink_to(file.resolve())


def _declare(target: Path, meta: str) -> Path:
    """Write the folder's ``meta.toml``."""
    (target / "meta.toml").write_text(meta.lstrip(), encoding="utf-8")
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    for name, folder in arrange(arguments.source, arguments.target).items():
        print(f"{name}: {folder}")
    for name, angle in axes(arguments.target / "cleargrasp").items():
        print(f"{name}: measured normals are {angle:.2f} deg (median) from those of the same frame's depth")

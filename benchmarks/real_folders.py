"""Arrange the real images of ``../shared/real`` as folders that ``ilora.data.dataset`` reads.

    python benchmarks/real_folders.py SOURCE TARGET

Conventions, licences and camera constants are those of the READMEs beside the files.
"""

import argparse
from pathlib import Path

import numpy as np

ICL_META = """
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
train = ["0001", "0004"]
validation = ["0008"]
test = ["0010"]
"""

MOTORCYCLE_META = """
[depths]
unit = "m"
invalid = [nan, inf]
[split]
test = ["*"]
"""

SKY = 1e6  # depth from which a Sintel frame shows the sky
FOCAL, BASELINE, OFFSET = 994.978, 193.001, 31.086  # px, mm, px: of the Motorcycle pair


def icl_livingroom(source: Path, target: Path) -> Path:
    """22 frames of one synthetic room with depth in millimetres."""
    for picture in sorted((source / "icl_livingroom/image").glob("*.jpg")):
        _link(picture, target / "images" / picture.name)
        _link(source / "icl_livingroom/depth" / f"{picture.stem}.png", target / "depths" / f"{picture.stem}.png")
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


def sintel(source: Path, target: Path) -> Path:
    """4 frames of a film with albedo, shading and depth in the film's units; depth needs scipy."""
    from scipy.io import loadmat

    for picture in sorted((source / "sintel_sparseintrinsic").glob("image*.png")):
        number = picture.stem.removeprefix("image")
        _link(picture, target / "images" / f"{number}.png")
        for kind in ("albedo", "shading"):
            _link(picture.with_name(f"gt_{kind}{number}.png"), target / f"{kind}s" / f"{number}.png")
        depth = loadmat(picture.with_name(f"Z{number}.mat"))["Z"]
        (target / "depths").mkdir(parents=True, exist_ok=True)
        np.save(
            target / "depths" / f"{number}.npy", np.where(depth > 1e6, 0, depth).astype(np.float32)
        )  # sky is not measured
    return _declare(target, SINTEL_META)


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


FOLDERS = {"icl_livingroom": icl_livingroom, "cleargrasp": cleargrasp, "sintel": sintel, "motorcycle": motorcycle}


def arrange(source: Path, target: Path) -> dict[str, Path]:
    """All of ``FOLDERS`` under ``target``, by name."""
    return {name: make(source, target / name) for name, make in FOLDERS.items()}


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

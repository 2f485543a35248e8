"""A user's folder from files to examples, and every mistake in it named file by file."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ilora import images
from ilora.data import dataset
from ilora.data.base import Dataset
from ilora.data.folder import Folder, check
from ilora.data.problems import SHOWN, listing

DEPTH = torch.linspace(1, 3, 48).reshape(1, 6, 8)  # m
WHOLE = '[depths]\nunit = "mm"\ninvalid = 0\n[split]\ntrain = ["*"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good examples with depth in millimetres."""
    for name in "abcd":
        picture(tmp_path / f"images/{name}.png", ord(name))
        depth(tmp_path / f"depths/{name}.png", DEPTH)
    (tmp_path / "meta.toml").write_text(WHOLE)
    return tmp_path


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (6, 8)) -> None:
    """Noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def depth(path: Path, metres: torch.Tensor) -> None:
    """Millimetres in 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((metres[0] * 1000).round().numpy().astype(np.uint16)).save(path)


def problems(path: Path, **choice: str) -> list[str]:
    """Lines of ``check``."""
    return [str(problem) for problem in check(Folder(path, **{"intrinsic": "depth", "split": "all", **choice}))]


def test_good_examples(folder: Path) -> None:
    data = dataset(str(folder), intrinsic="depth")
    assert isinstance(data, Dataset) and data.names == ["a", "b", "c", "d"] and len(data) == 4
    example = data[2]
    assert example.name == "c" and example.valid.all()
    assert torch.equal(example.image, images.read(folder / "images/c.png"))
    assert_close(example.map, DEPTH, atol=0.0006, rtol=0)
    assert [other.name for other in data] == data.names


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".exr", ".tif"])
def test_every_format_of_maps(suffix: str, tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    path = tmp_path / f"depths/a{suffix}"
    write = {".npy": images.write_npy, ".npz": images.write_npz, ".exr": images.write_exr}.get(suffix)
    path.parent.mkdir()
    if write:
        write(path, DEPTH, about={})
    else:
        Image.fromarray(DEPTH[0].numpy()).save(path)
    assert torch.equal(Folder(tmp_path, intrinsic="depth", split="all")[0].map, DEPTH)
    assert not problems(tmp_path)


def test_our_own_predictions_can_be_data(tmp_path: Path) -> None:
    picture(tmp_path / "image/a.jpg")  # singular names, and another format than the map's
    normal = torch.tensor([0.0, 0.6, 0.8])[:, None, None].expand(3, 6, 8)
    images.write_png16(tmp_path / "normal/a.png", normal, low=-1, high=1, about={"axes": "RUB"})
    assert_close(Folder(tmp_path, intrinsic="normal", split="all")[0].map, normal, atol=1e-4, rtol=0)


def test_masks(folder: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[:2] = 255
    (folder / "valids").mkdir()
    Image.fromarray(mask).save(folder / "valids/a.png")
    data = Folder(folder, intrinsic="depth", split="all")
    assert torch.equal(data[0].valid[0], torch.from_numpy(mask > 0)) and data[1].valid.all()
    assert float(data[0].map[~data[0].valid].abs().sum()) == 0
    (folder / "meta.toml").write_text(WHOLE + "[valids]\ninvalid = 255\n")
    assert torch.equal(Folder(folder, intrinsic="depth", split="all")[0].valid[0], torch.from_numpy(mask == 0))


def test_unmatched_names(folder: Path) -> None:
    (folder / "depths/b.png").unlink()
    (folder / "images/c.png").unlink()
    picture(folder / "images/d.jpg")
    assert problems(folder) == [
        "images/d.png: the name also stands for d.jpg; remove or rename one of them",
        "images/b.png: no file of that name in depths; add it, or remove this one",
        "depths/c.png: no file of that name in images; add it, or remove this one",
    ]
    assert Folder(folder, intrinsic="depth", split="all").names == ["a", "d"]


def test_masks_that_would_not_be_applied(folder: Path) -> None:
    (folder / "valids").mkdir()
    for name in ("a.png", "a.tif", "b.jpg", "c.png", "d.png", "d.jpg", "d_mask.png"):
        Image.new("L", (8, 6), 255).save(folder / "valids" / name)
    told = [
        "valids/a.tif: the name also stands for a.png; remove or rename one of them",
        "valids/b.jpg: must be one of .png, .tif, .tiff, .exr, .npy, .npz, which lose nothing; "
        "convert it from its source",
        "valids/d_mask.png: no picture of that name; rename it, or remove it",
    ]
    assert problems(folder) == told
    with pytest.warns(UserWarning, match="3 of the examples"):
        assert dataset(str(folder), intrinsic="depth", on_problem="skip").names == ["c", "d"]
    (folder / "meta.toml").write_text(WHOLE.replace('["*"]', '["a", "b"]\ntest = ["c"]'))
    assert problems(folder, split="train") == told  # d_mask is in no split, and was meant for some picture
    assert problems(folder, split="test") == told[2:]  # d and its mask are in none, and nobody misses them


def test_maps_that_lose_something(folder: Path) -> None:
    (folder / "depths/b.png").unlink()
    for name in "bcx":
        Image.new("L", (8, 6), 255).save(folder / f"depths/{name}.jpg")  # c has its map; of x there is no picture
    (line,) = problems(folder)
    assert line.startswith("depths/b.jpg: must be one of .png, .tif") and line.endswith("; convert it from its source")
    assert Folder(folder, intrinsic="depth", split="all").names == ["a", "c", "d"]


def test_wrong_sizes(folder: Path) -> None:
    depth(folder / "depths/a.png", DEPTH[:, :3])
    depth(folder / "depths/b.png", DEPTH.mT)
    picture(folder / "valids/c.png", size=(5, 5))
    assert problems(folder) == [
        "depths/a.png: 8 x 3 px, expected the picture's 8 x 6; find the right file",
        "depths/b.png: 6 x 8 px, expected the picture's 8 x 6; "
        "the picture is turned by its EXIF orientation, turn the map, too",
        "valids/c.png: 5 x 5 px, expected the picture's 8 x 6; find the right file",
    ]
    with pytest.raises(ValueError, match=r"depths/a.png: 8 x 3 px"):
        Folder(folder, intrinsic="depth", split="all")[0]


def test_broken_files(folder: Path) -> None:
    (folder / "images/a.png").write_bytes(b"\x89PNG")
    (folder / "depths/b.png").write_bytes(b"")
    found = problems(folder)
    assert [line.partition(":")[0] for line in found] == ["images/a.png", "depths/b.png"]
    assert all("\n" not in line for line in found)


def test_nothing_valid_and_impossible_values(folder: Path) -> None:
    depth(folder / "depths/a.png", DEPTH * 0)
    depth(folder / "depths/b.png", DEPTH * 0 + 2)
    (folder / "depths/c.png").unlink()
    images.write_npy(folder / "depths/c.npy", DEPTH.where(DEPTH < 2.5, torch.nan) * 1e6, about={})
    assert problems(folder) == [
        "depths/a.png: no pixel of it is valid; leave it out, or correct invalid in meta.toml",
        "depths/b.png: its depth is 2 everywhere; leave it out, or find the right file",
        "depths/c.npy: 12 of its pixels are NaN or infinite; "
        "declare invalid = [nan, inf, -inf], with what it holds already",
        'depths/c.npy: its median depth is 1723 m; declare the unit and scale, or unit = "relative"',
    ]


def test_a_floor_that_points_down(tmp_path: Path) -> None:
    rows = torch.where(torch.arange(6)[:, None] >= 3, torch.tensor([0.0, -1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0]))
    picture(tmp_path / "images/a.png")
    images.write_npy(tmp_path / "normals/a.npy", rows.T[:, :, None].expand(3, 6, 8), about={})
    (line,) = problems(tmp_path, intrinsic="normal")
    assert line.startswith("normals/a.npy: its floor points down and most surfaces face away if its axes are RUB")
    (tmp_path / "meta.toml").write_text('[normals]\naxes = "RDF"\n')
    assert not problems(tmp_path, intrinsic="normal")


def test_training_refuses_or_skips(folder: Path) -> None:
    depth(folder / "depths/b.png", DEPTH * 0)
    (folder / "images/c.png").unlink()
    with pytest.raises(ValueError, match=r'(?s)2 of the examples .* have problems; .*on_problem="skip"') as caught:
        dataset(str(folder), intrinsic="depth")
    assert "\ndepths/b.png: no pixel" in str(caught.value) and "\ndepths/c.png: no file" in str(caught.value)
    with pytest.warns(UserWarning, match=r"(?s)2 of the examples .* are left out:\n.*depths/b.png"):
        kept = dataset(str(folder), intrinsic="depth", on_problem="skip")
    assert kept.names == ["a", "d"] and kept[1].name == "d"
    with pytest.raises(ValueError, match="did you mean 'skip'"):
        dataset(str(folder), intrinsic="depth", on_problem="skp")


def test_a_long_list_is_cut() -> None:
    from ilora.data.problems import Problem

    lines = listing([Problem(str(n), f"{n}.png", "is bad", "leave it out") for n in range(SHOWN + 7)]).split("\n")
    assert len(lines) == SHOWN + 1 and lines[0] == "0.png: is bad; leave it out" and lines[-1] == "... and 7 more"


def test_splits(folder: Path) -> None:
    (folder / "meta.toml").write_text('[depths]\nunit = "mm"\n[split]\ntrain = ["a", "b"]\ntest = ["c*"]\n')
    with warnings.catch_warnings(action="error"):
        names = {
            split: dataset(str(folder), intrinsic="depth", split=split).names for split in ("train", "test", "all")
        }
    assert names == {"train": ["a", "b"], "test": ["c"], "all": ["a", "b", "c", "d"]}
    with pytest.raises(ValueError, match=r"split 'validation' .* got none"):
        dataset(str(folder), intrinsic="depth", split="validation")


def test_a_drawn_split_is_said_aloud_and_is_a_partition(folder: Path) -> None:
    for index in range(60):
        picture(folder / f"images/{index}.png")
        depth(folder / f"depths/{index}.png", DEPTH)
    (folder / "meta.toml").write_text('[depths]\nunit = "mm"\n')
    parts = []
    for split in ("train", "validation", "test"):
        with pytest.warns(UserWarning, match=f"declares no split: .* of '{split}' were drawn"):
            parts.append(set(dataset(str(folder), intrinsic="depth", split=split).names))
    assert sum(map(len, parts)) == len(set.union(*parts)) == 64
    assert len(parts[0]) > len(parts[1]) and len(parts[0]) > len(parts[2])


def test_the_fingerprint_follows_contents_and_meaning(folder: Path) -> None:
    def fingerprint(intrinsic: str = "depth") -> str:
        return Folder(folder, intrinsic=intrinsic, split="all").fingerprint

    prints = [fingerprint()]
    assert fingerprint() == prints[0]
    for name, text in (("notes.txt", "x"), ("meta.toml", WHOLE + '[normals]\naxes = "RDF"\n')):  # of no consequence
        (folder / name).write_text(text)
        assert fingerprint() == prints[0]
    for change in (
        lambda: depth(folder / "depths/a.png", DEPTH * 1.001),
        lambda: picture(folder / "images/a.png", 99),
        lambda: (folder / "meta.toml").write_text(WHOLE.replace('"mm"', '"cm"')),
        lambda: picture(folder / "valids/a.png"),
        lambda: [(folder / place / "d.png").rename(folder / place / "e.png") for place in ("images", "depths")],
    ):
        change()
        prints.append(fingerprint())
    assert len(set(prints)) == len(prints)


def test_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "depth").mkdir()
    with pytest.raises(ValueError, match=r"must hold normals/, got the folders \['depth', 'images'\]"):
        Folder(tmp_path, intrinsic="normal")
    with pytest.raises(ValueError, match="must have examples, got none"):
        Folder(tmp_path, intrinsic="depth")
    with pytest.raises(ValueError, match=r"data \(\"rooms\" or a folder\) must exist"):
        dataset(str(tmp_path / "nowhere"), intrinsic="depth")
    with pytest.raises(ValueError, match="did you mean 'depth'"):
        Folder(tmp_path, intrinsic="dept")


def test_files_are_read_when_they_are_asked_for(folder: Path) -> None:
    data = Folder(folder, intrinsic="depth", split="all")
    (folder / "depths/b.png").write_bytes(b"broken")
    assert data[0].name == "a"  # one bad file does not keep the others from being read
    with pytest.raises(ValueError, match=r"depths/b.png.*cannot be read"):
        data[1]


def test_real_folders(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from real_folders import arrange, axes

    places = arrange(real, tmp_path)
    sizes = {
        "icl_livingroom": {"train": 13, "validation": 2, "test": 7},
        "cleargrasp": {"train": 4, "validation": 1, "test": 2},
        "sintel": {"train": 2, "test": 2},
        "sintel_reversed": {"train": 2, "test": 2},
    }
    for name, kinds in (
        ("icl_livingroom", ["depth", "normal"]),
        ("sintel", ["albedo", "shading", "depth"]),
        ("sintel_reversed", ["albedo"]),
        ("cleargrasp", ["normal", "depth"]),
    ):
        for kind in kinds:
            data = {split: Folder(places[name], intrinsic=kind, split=split) for split in sizes[name]}
            assert {split: len(examples) for split, examples in data.items()} == sizes[name]
            assert not check(data.get("validation", data["test"]))  # one split, since every file is read
    # Axes and cameras: the synthetic frames' normals are those of their own depth, the real ones' nearly.
    angles = axes(places["cleargrasp"])
    assert len(angles) == 7
    assert max(angle for name, angle in angles.items() if name.startswith("synthetic")) < 6
    assert max(angles.values()) < 15
    normal = Folder(places["cleargrasp"], intrinsic="normal", split="validation")[0]
    assert_close(normal.map.norm(dim=0)[normal.valid[0]].min(), torch.tensor(1.0))
    lived_in = Folder(places["icl_livingroom"], intrinsic="depth", split="validation")[0]
    assert 1 < float(lived_in.map[lived_in.valid].median()) < 5  # m

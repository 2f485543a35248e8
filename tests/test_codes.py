"""What a fit learns from: rows in a reproducible order, made once, mirrored as scenes are."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.codes import batch, encode, mean_map
from ilora.data import dataset
from ilora.data.base import select
from ilora.data.transforms import square
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.records import Record
from tests import world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"), train=4, test=1)


@pytest.mark.parametrize(("size", "count"), [(4, 10), (3, 3), (7, 2)])
def test_epochs_follow_each_other_without_a_gap(size: int, count: int) -> None:
    rows = torch.cat([batch(step, size=size, count=count, seed=5) for step in range(2 * count)])
    for epoch in rows.view(-1, count):  # every epoch shows every row once
        assert epoch.sort().values.tolist() == list(range(count))


def test_a_batch_depends_on_the_step_and_the_seed_only() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = batch(7, size=4, count=50, seed=1)
    assert batch(7, size=4, count=50, seed=1).equal(first)
    assert not batch(8, size=4, count=50, seed=1).equal(first)
    assert not batch(7, size=4, count=50, seed=2).equal(first)


def test_rows_are_pictures_and_mirror_images_encoded_for_themselves(folder: Path) -> None:
    generator, kind = load("toy"), intrinsic("normal")
    examples = dataset(str(folder), intrinsic="normal")
    records = encode(generator, kind, examples, mirrored=True)
    assert len(records.code) == 2 * len(examples) == 8
    example = square(examples[3], kind, side=generator.resolution)
    image, normal = example.image[None], example.map[None]
    assert_close(records.code[6:], generator.encode(torch.cat([image, image.flip(-1)])))
    both = torch.cat([normal, normal.flip(-1) * torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1)])
    assert_close(records.map[6:].float(), both, rtol=0, atol=2**-12)  # half of the last of 11 bits below 1
    assert_close(generator.decode(records.target[6:]), both)


def test_maps_beyond_float16_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    """Relative depth of any size is learned from: the largest number of float16 is 65504."""
    place, generator, kind = tmp_path / "far", load("toy"), intrinsic("depth")
    shutil.copytree(folder, place)
    np.save(place / "depths/train3.npy", np.load(place / "depths/train3.npy") * 1e6)
    (place / "meta.toml").write_text(world.META.replace('unit = "m"', 'unit = "relative"'))
    near = encode(generator, kind, dataset(str(folder), intrinsic="depth"), mirrored=False)
    far = encode(generator, kind, dataset(str(place), intrinsic="depth"), mirrored=False)
    assert near.map.dtype == torch.float16 and far.map.dtype == torch.float32
    assert far.map[:3].equal(near.map[:3].float())
    example = square(dataset(str(place), intrinsic="depth")[3], kind, side=generator.resolution)
    assert far.map[3].equal(example.map) and far.map.max() > 1e6
    loss = kind.loss(generator.forward(far.code), far.map, far.valid)
    assert mean_map(kind, far)["mean"].isfinite().all() and loss.isfinite().all()


def test_codes_are_made_once_and_shared_by_intrinsics(folder: Path, tmp_path: Path) -> None:
    def entries() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}

    generator = load("toy")
    normals, depths = (select(dataset(str(folder), intrinsic=name), 2, seed=0) for name in ("normal", "depth"))
    encode(generator, intrinsic("normal"), normals, mirrored=False)
    first = entries()
    assert len(first) == 4  # a code and a target for each picture
    encode(generator, intrinsic("normal"), normals, mirrored=False)
    assert entries() == first
    encode(generator, intrinsic("depth"), depths, mirrored=False)
    assert len(entries()) == 6  # two more targets, no more codes
    assert first.items() < entries().items()


def test_the_mean_map_leaves_out_what_is_not_valid() -> None:
    maps = torch.tensor([[1.0, 4.0], [3.0, torch.nan]]).view(2, 1, 1, 2).half()
    valid = torch.tensor([[True, True], [True, False]]).view(2, 1, 1, 2)
    code = torch.zeros(2, 1)
    mean = mean_map(intrinsic("depth"), Record(code, code, maps, valid))
    assert mean["mean"].flatten().tolist() == [2.0, 4.0]
    assert mean["seen"].flatten().tolist() == [1.0, 0.5]


def test_the_mean_of_normals_is_a_normal() -> None:
    maps = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1).half()
    code = torch.zeros(2, 1)
    mean = mean_map(intrinsic("normal"), Record(code, code, maps, torch.ones(2, 1, 1, 1, dtype=torch.bool)))
    assert_close(mean["mean"].flatten(), torch.tensor([0.5, 0.5, 0]).sqrt())

"""Depth teachers say what the networks say in the stock pipelines of transformers, in ilora's units."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch.nn.functional import interpolate
from torch.testing import assert_close

from ilora.data.teachers import depth_estimation, teacher
from ilora.data.teachers.base import Teacher, ask
from ilora.ops import disparity
from tests.data.teachers.conftest import picture
from tests.tiny_teachers import SIZES

PILLOW = {"d": "DPTImageProcessorPil", "z": "ZoeDepthImageProcessorPil"}  # by the first letter of the model
Stock = dict[str, tuple[Path, object]]
Own = Callable[[str], Teacher]
DEPTH = ("depth-anything", "depth-anything-metric", "dpt")


def processor(folder: Path, name: str) -> object:
    """The library's own preparation on top of Pillow."""
    return getattr(transformers, PILLOW[name[0]])(**json.loads((folder / "preprocessor_config.json").read_text()))


@pytest.mark.parametrize("name", DEPTH)
def test_the_label_is_what_the_stock_pipeline_predicts(stock: Stock, own: Own, name: str) -> None:
    side = SIZES["dpt" if name == "dpt" else "depth-anything"][0]
    shown, image = picture(side, side)  # nothing is resized, so that nothing is rounded to bytes in between
    folder, network = stock[name]
    pipeline = transformers.pipeline("depth-estimation", model=network, image_processor=processor(folder, name))
    predicted = pipeline(shown)["predicted_depth"][None, None]
    metric = name.endswith("metric")
    wanted = predicted if metric else disparity.relative_depth(predicted)
    assert predicted.std() > 1e-3
    assert own(name).declares["depth"].unit == ("m" if metric else "relative")
    depth, valid = own(name).label(image)["depth"]
    assert_close(depth, wanted, rtol=1e-4, atol=1e-4)
    assert valid.all()


@pytest.mark.parametrize("name", [*DEPTH, "zoedepth"])
@pytest.mark.parametrize("size", [(40, 61), (90, 50)])
def test_pictures_are_prepared_as_pillow_does(folders: dict[str, Path], name: str, size: tuple[int, int]) -> None:
    shown, image = picture(*size)
    found = depth_estimation.intake(folders[name], teacher_kind(folders[name]))(image)
    wanted = processor(folders[name], name)(images=shown, return_tensors="pt")["pixel_values"]
    exact = name == "zoedepth"  # the others round to bytes after the rows and after the columns
    assert_close(found, wanted, rtol=0, atol=1e-5 if exact else 1.5 / 255 / 0.224)


def teacher_kind(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text())["architectures"][0]


def test_zoedepth_takes_its_frame_off_again(stock: Stock, own: Own) -> None:
    shown, image = picture(40, 60)
    folder, network = stock["zoedepth"]
    inputs = processor(folder, "zoedepth")(images=shown, return_tensors="pt")
    rows, columns = int(math.sqrt(40 / 2) * 3), int(math.sqrt(60 / 2) * 3)  # 13 and 16
    with torch.no_grad():
        whole = network(**inputs).predicted_depth[None]
    sized = interpolate(whole, (40 + 26, 60 + 32), mode="bicubic", align_corners=False)
    assert (rows, columns) == (13, 16)
    assert_close(own("zoedepth").label(image)["depth"][0], sized[:, :, 13:-13, 16:-16], rtol=1e-4, atol=1e-4)
    assert own("zoedepth").declares["depth"].unit == "m"


@pytest.mark.parametrize("name", ["zoedepth-two", "dpt"])
def test_a_label_does_not_depend_on_the_rest_of_the_batch(own: Own, name: str) -> None:
    images = torch.cat([picture(40, 48, seed=seed)[1] for seed in range(3)])
    alone = torch.cat([own(name).label(image[None])["depth"][0] for image in images])
    assert_close(own(name).label(images)["depth"][0], alone, rtol=1e-4, atol=1e-4)


def test_the_published_preparation_stands_in_for_a_missing_file(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folders["depth-anything"] / file, tmp_path)
    bare = teacher(str(tmp_path))
    assert bare.intake(picture(100, 150)[1]).shape == (1, 3, 350, 518)  # the scale nearer to 1; 345 is no multiple
    assert bare.intake.mean == depth_estimation.IMAGENET[0]


@pytest.mark.parametrize("change", [{"resample": 1}, {"do_pad": True}, {"size": {"shortest_edge": 9}}])
def test_a_preparation_that_is_not_understood_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(change))
    with pytest.raises(ValueError, match=r"must ask for bilinear \(2\) or bicubic \(3\)"):
        depth_estimation.intake(tmp_path, "DPTForDepthEstimation")


def test_a_picture_smaller_than_zoedepths_frame_is_refused(own: Own) -> None:
    with pytest.raises(ValueError, match="must be larger than 4 px, got 4 x 4"):
        own("zoedepth").label(torch.zeros(1, 3, 4, 4))


def test_constant_depth_is_doubted(folders: dict[str, Path]) -> None:
    blank = teacher(str(folders["dpt"]))
    for parameter in blank.network.parameters():
        parameter.zero_()
    (answer,) = ask(blank, picture(32, 32)[1])
    assert answer.doubts == ["depth: its depth is 1 everywhere; leave it out, or find the right file"]

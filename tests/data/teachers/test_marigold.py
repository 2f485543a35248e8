"""Marigold's labels are what its pipelines give, in the axes and colour spaces that they declare."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.data.teachers import teacher
from ilora.data.teachers.base import Teacher, ask
from ilora.ops import color
from tests.data.teachers.conftest import picture

Stock = dict[str, tuple[Path, object]]
Own = Callable[[str], Teacher]


def given(stock: Stock, name: str, shown: object) -> torch.Tensor:
    """What the library's pipeline gives for a picture: [n, 3, h, w]."""
    return stock[name][1](shown, generator=torch.Generator().manual_seed(0), output_type="pt").prediction


def test_normals_are_those_of_the_pipeline(stock: Stock, own: Own) -> None:
    shown, image = picture(30, 44)
    normal, valid = own("normals").label(image)["normal"]
    assert own("normals").declares["normal"].axes == "RUB"
    assert_close(normal, given(stock, "normals", shown), rtol=0, atol=1e-4)
    assert_close(normal.norm(dim=1, keepdim=True), torch.ones_like(normal[:, :1]))
    assert valid.all() and normal.std((2, 3)).min() > 0.01
    (answer,) = ask(own("normals"), image)
    assert_close(answer.labels["normal"].map, normal[0], rtol=0, atol=1e-6)  # RUB is what ilora has


def test_albedo_and_shading_come_as_linear_light(stock: Stock, own: Own) -> None:
    shown, image = picture(30, 44)
    wanted = given(stock, "lighting", shown)  # albedo, shading, residual
    (answer,) = ask(own("lighting"), image)
    assert_close(answer.labels["albedo"].map, color.to_linear(wanted[0]), rtol=0, atol=1e-5)  # declared as srgb
    assert_close(answer.labels["shading"].map, wanted[1], rtol=0, atol=1e-5)  # declared as linear
    assert answer.labels.keys() == {"albedo", "shading"}


@pytest.mark.parametrize("name", ["normals", "lighting"])
def test_a_label_does_not_depend_on_the_rest_of_the_batch(own: Own, name: str) -> None:
    images = torch.cat([picture(24, 24, seed=seed)[1] for seed in range(2)])
    for kind, (maps, _) in own(name).label(images).items():
        alone = torch.cat([own(name).label(image[None])[kind][0] for image in images])
        assert_close(maps, alone, rtol=0, atol=1e-4)


def test_targets_that_are_not_named_or_not_understood_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["lighting"], tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    stored = json.loads(index.read_text())
    for change, words in (
        ({"target_properties": {"target_names": ["material", "shade", "rest"]}}, "albedo among them, got"),
        ({"target_properties": None}, "must name its 3 targets"),
        ({"default_denoising_steps": None}, "must name default_denoising_steps"),
        (
            {"target_properties": {**stored["target_properties"], "albedo": {"prediction_space": "log"}}},
            "prediction_space of albedo must be one of srgb, linear, got 'log'",
        ),
    ):
        index.write_text(json.dumps({**stored, **change}))
        with pytest.raises(ValueError, match=words):
            teacher(str(tmp_path / "model"))


def test_a_half_precision_variant_alone_will_do(own: Own, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["normals"], tmp_path / "model")
    for path in (tmp_path / "model").glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    image = picture(24, 24)[1]
    found = teacher(str(tmp_path / "model")).label(image)["normal"][0]
    assert_close(found, own("normals").label(image)["normal"][0])

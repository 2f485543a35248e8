"""What all intrinsics have in common."""

import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from ilora.intrinsics import NAMES, intrinsic
from ilora.intrinsics.base import Intrinsic
from ilora.ops.geometry import normalize
from ilora.ops.metrics import LEGEND

each = pytest.mark.parametrize("name", NAMES)


def scene(name: str, *, seed: int = 0, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth map of two images in the units of the intrinsic, and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.rand(2, 3, 4, 4, generator=generator)
    field = torch.nn.functional.interpolate(field, (size, size), mode="bicubic").clamp(0.05, 0.95)
    map = {
        "normal": lambda: normalize(2 * field - 1),
        "depth": lambda: 1 + 4 * field[:, :1],
        "albedo": lambda: field,
        "shading": lambda: 0.3 * field,
    }[name]()
    return map, torch.rand(2, 1, size, size, generator=generator) < 0.9


def perfect(name: str) -> dict[str, float]:
    return {metric: 0.0 if legend.better == "lower" else {"%": 100.0, "dB": 60.0, "": 1.0}[legend.unit]
            for metric, legend in LEGEND.items()}  # fmt: skip


@each
def test_it_has_the_whole_protocol(name):
    task = intrinsic(name)
    assert isinstance(task, Intrinsic)
    assert (task.name, task.channels) == (name, 1 if name == "depth" else 3)
    assert LEGEND[task.primary].better == "lower"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="got 'normals'; did you mean 'normal'"):
        intrinsic("normals")
    with pytest.raises(ValueError, match="got 'xyz'; known: normal, depth"):
        intrinsic("xyz")


def test_the_names_are_known_without_torch():
    code = "import sys, ilora.intrinsics as i; assert len(i.NAMES) == 4 and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@each
def test_the_image_is_bounded_and_neutral_where_invalid(name):
    map, valid = scene(name)
    image = intrinsic(name).to_image(torch.where(valid, map, float("nan")), valid)
    assert image.shape == (2, 3, 16, 16)
    assert image.min() >= -1 and image.max() <= 1 and image.std() > 0.2
    assert (image[(~valid).expand_as(image)] == 0).all()


@each
def test_a_perfect_picture_scores_perfectly(name):
    task, (map, valid) = intrinsic(name), scene(name)
    # The brightest and the farthest percents are clipped by design, so they are left out here.
    image = task.to_image(map, valid)
    valid = valid & (image.abs().amax(1, keepdim=True) < 1) if name != "normal" else valid
    scores = task.metrics(task.from_image(image), map, valid)
    wanted = perfect(name)
    for metric, score in scores.items():
        if metric == "psnr":
            assert (score > wanted[metric]).all()
        else:
            assert_close(score, torch.full((2,), wanted[metric]), atol=2e-3, rtol=0)


@each
def test_mirroring_twice_changes_nothing_and_once_changes_no_score(name):
    task, (map, valid) = intrinsic(name), scene(name)
    other, _ = scene(name, seed=5)
    assert_close(task.flip(task.flip(map)), map, rtol=0, atol=0)
    assert not torch.equal(task.flip(map), map)
    mirrored = task.metrics(task.flip(other), task.flip(map), valid.flip(-1))
    for metric, score in task.metrics(other, map, valid).items():
        if metric != "lmse":  # its windows start at one side
            assert_close(mirrored[metric], score, rtol=1e-4, atol=1e-5)


@each
def test_resizing_keeps_units(name):
    task, (map, _) = intrinsic(name), scene(name)
    small = task.resize(map, 8, 12)
    assert small.shape == (2, task.channels, 8, 12)
    assert small.min() >= map.min() - 0.05 and small.max() <= map.max() + 0.05
    constant = map[..., :1, :1].expand_as(map)
    assert_close(task.resize(constant, 5, 40), constant[..., :1, :1].expand(-1, -1, 5, 40))
    assert_close(task.resize(map, 16, 16), map)


@each
def test_the_loss_is_least_at_the_match_and_counts_images_alone(name):
    task, (map, valid) = intrinsic(name), scene(name)
    match = task.to_image(map, valid)
    noise = torch.randn(match.shape, generator=torch.Generator().manual_seed(1))
    levels = torch.stack([task.loss(match + level * noise, map, valid) for level in (0, 0.02, 0.1, 0.5)])
    assert (levels.diff(dim=0) > 0).all()
    assert (levels[0] < 3e-3).all()
    alone = torch.cat(
        [task.loss(match[i : i + 1] + 0.1 * noise[i : i + 1], map[i : i + 1], valid[i : i + 1]) for i in (0, 1)]
    )
    assert_close(levels[2], alone)


@each
@pytest.mark.parametrize("case", ["match", "opposite", "zero", "constant", "saturated"])
def test_the_gradient_is_finite_at_the_ends(name, case):
    task, (map, valid) = intrinsic(name), scene(name)
    match = task.to_image(map, valid)
    image = {
        "match": match,
        "opposite": -match,
        "zero": torch.zeros_like(match),
        "constant": torch.full_like(match, 0.3),
        "saturated": 5 * match.sign(),
    }[case].clone().requires_grad_()  # fmt: skip
    loss = task.loss(image, map, valid)
    loss.sum().backward()
    assert loss.isfinite().all() and image.grad.isfinite().all()
    assert image.grad.abs().max() < 10


@each
def test_the_gradient_agrees_with_finite_differences(name):
    task, (map, valid) = intrinsic(name), scene(name, size=4)
    map = map.double()
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    image = (0.8 * task.to_image(map, valid) + 0.1 * noise).clamp(-0.95, 0.95).requires_grad_()
    assert torch.autograd.gradcheck(lambda i: task.loss(i, map, valid), image, atol=1e-5)


@each
def test_invalid_pixels_and_images_do_not_count(name):
    task, (map, valid) = intrinsic(name), scene(name)
    valid = valid & torch.tensor([True, False])[:, None, None, None]
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) - 0.5
    image = torch.where(valid, picture, float("nan")).requires_grad_()
    loss = task.loss(image, torch.where(valid, map, float("nan")), valid)
    loss.sum().backward()
    assert_close(loss, torch.where(torch.tensor([True, False]), task.loss(picture, map, valid), 0))
    assert (image.grad[(~valid).expand_as(image)] == 0).all()
    assert image.grad.abs().sum() > 0


@each
def test_half_precision_gives_the_single_precision_loss(name):
    task, (map, valid) = intrinsic(name), scene(name)
    image = (0.7 * task.to_image(map, valid)).bfloat16().requires_grad_()
    loss = task.loss(image, map, valid)
    assert_close(loss, task.loss(image.float(), map, valid), rtol=0, atol=0)
    loss.sum().backward()
    assert image.grad.isfinite().all()
    assert task.from_image(image).dtype == torch.float32


@each
def test_metrics_are_documented_numbers_and_nan_without_valid_pixels(name):
    task, (map, valid) = intrinsic(name), scene(name)
    other, _ = scene(name, seed=9)
    scores = task.metrics(other, map, valid & torch.tensor([True, False])[:, None, None, None])
    assert task.primary in scores and set(scores) <= set(LEGEND)
    for score in scores.values():
        assert score[0].isfinite() and score[1].isnan()


@each
def test_metrics_refuse_nan_predictions(name):
    task, (map, valid) = intrinsic(name), scene(name)
    with pytest.raises(ValueError, match="the map must be finite"):
        task.metrics(torch.full_like(map, float("nan")), map, valid)


@each
def test_the_picture_for_people(name):
    task, (map, _) = intrinsic(name), scene(name)
    map[0, :, 0, 0] = float("nan")
    picture = task.show(map)
    assert picture.dtype == torch.uint8 and picture.shape == (2, 3, 16, 16)
    assert picture[0, :, 0, 0].tolist() == [0, 0, 0]
    assert picture[1].float().std() > 10


@each
def test_an_image_painted_by_gradient_descent_reaches_the_map(name):
    task, (map, valid) = intrinsic(name), scene(name)
    image = torch.zeros(2, 3, 16, 16).add_(0.1 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)))
    first = task.metrics(task.from_image(image), map, valid)[task.primary]
    image.requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        task.loss(image, map, valid).sum().backward()
        optimizer.step()
    last = task.metrics(task.from_image(image.detach()), map, valid)[task.primary]
    assert (last < 0.15 * first).all()

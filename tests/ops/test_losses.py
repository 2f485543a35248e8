import math

import pytest
import torch
from torch.testing import assert_close

from ilora.ops import alignment, losses

TERMS = {
    "absolute": losses.absolute,
    "edges": losses.edges,
    "root_mean_square": losses.root_mean_square,
    "scale and shift": lambda map, target, valid: losses.absolute(
        losses.scaled_and_shifted(map, target, valid), target, valid
    ),
    "scale": lambda map, target, valid: losses.absolute(losses.scaled(map, target, valid), target, valid),
}


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def maps(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    map, target = (torch.rand(2, 1, 8, 8, generator=generator).to(dtype) for _ in range(2))
    return map, target, torch.rand(2, 1, 8, 8, generator=generator) < 0.8


def test_absolute_by_hand():
    assert_close(losses.absolute(row(1, 2, 9), row(0, 4, 0), row(1, 1, 0).bool()), torch.tensor([1.5]))


def test_edges_by_hand():
    # Residuals 0 1 4 4: differences 1 3 0 at full size; 4 between every second pixel.
    residual, zero, valid = row(0, 1, 4, 4), row(0, 0, 0, 0), row(1, 1, 1, 1).bool()
    assert_close(losses.edges(residual, zero, valid, scales=1), torch.tensor([4 / 3]))
    assert_close(losses.edges(residual, zero, valid, scales=2), torch.tensor([(4 / 3 + 4) / 2]))
    assert_close(losses.edges(residual, zero, row(1, 1, 0, 1).bool(), scales=1), torch.tensor([1.0]))


def test_edges_ignore_an_offset_and_see_a_step():
    map, target, valid = maps()
    assert_close(losses.edges(map + 3, target, valid), losses.edges(map, target, valid), atol=1e-6, rtol=1e-5)
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1.0
    everywhere = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    # One of the 7, 3, 1 and 0 horizontal neighbours of the four scales.
    assert_close(losses.edges(step, 0 * step, everywhere), torch.tensor([(1 / 7 + 1 / 3 + 1) / 4]))


def test_alignments_are_the_least_squares_ones():
    map, target, valid = maps()
    for ours, reference in (
        (losses.scaled_and_shifted, alignment.by_scale_and_shift),
        (losses.scaled, alignment.by_scale),
    ):
        got, wanted = ours(map, target, valid, epsilon=0.0), reference(map, target, valid)
        assert_close(torch.where(valid, got, 0), torch.where(valid, wanted, 0))


def test_root_mean_square_by_hand():
    valid = row(1, 1, 0).bool()
    assert_close(losses.root_mean_square(row(3, 4, 9), row(0, 0, 0), valid, epsilon=1e-6), torch.tensor([12.5**0.5]))


@pytest.mark.parametrize("term", TERMS)
def test_gradients_agree_with_finite_differences(term):
    map, target, valid = maps(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: TERMS[term](m, target, valid), map.requires_grad_(), atol=1e-5)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("case", ["match", "constant", "zero target"])
def test_gradients_are_finite_at_the_ends(term, case):
    map, target, valid = maps()
    map = {"match": target.clone(), "constant": torch.full_like(map, 0.3), "zero target": torch.zeros_like(map)}[case]
    target = torch.zeros_like(target) if case == "zero target" else target
    loss = TERMS[term](map.requires_grad_(), target, valid)
    loss.sum().backward()
    assert map.grad.isfinite().all()
    if case != "constant":
        assert (loss < 1e-3).all()


@pytest.mark.parametrize("term", TERMS)
def test_invalid_pixels_and_images_are_left_out(term):
    map, target, valid = maps()
    valid = valid & torch.tensor([True, False])[:, None, None, None]
    dirty = torch.where(valid, map, float("nan")).requires_grad_()
    loss = TERMS[term](dirty, torch.where(valid, target, float("nan")), valid)
    loss.sum().backward()
    assert_close(loss[:1], TERMS[term](map, target, valid)[:1])
    assert loss[1] == 0
    assert (dirty.grad[~valid] == 0).all() and dirty.grad[valid].abs().sum() > 0


@pytest.mark.parametrize("term", TERMS)
def test_half_precision_is_lifted_first(term):
    map, target, valid = maps()
    half = map.bfloat16()
    assert_close(TERMS[term](half, target, valid), TERMS[term](half.float(), target, valid), rtol=0, atol=0)


# Light as a product.


def scene(count: int = 2, side: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random albedo and shading, and every pixel valid."""
    drawn = torch.Generator().manual_seed(0)
    albedo = torch.rand(count, 3, side, side, generator=drawn).double() * 0.8 + 0.1
    shading = torch.rand(count, 3, side, side, generator=drawn).double() * 0.8 + 0.1
    return albedo, shading, torch.ones(count, 1, side, side, dtype=torch.bool)


def test_composed_by_hand() -> None:
    # Ratios of light to albedo * shading are 2, 2, 8, 1: logarithms about their median, ln 2, are 0, 0, ln 4, -ln 2.
    albedo = torch.tensor([0.5, 0.2, 0.5, 0.5]).double().expand(1, 3, 1, 4)
    shading = torch.tensor([0.4, 0.5, 0.1, 0.2]).double().expand(1, 3, 1, 4)
    light = torch.tensor([0.4, 0.2, 0.4, 0.1]).double().expand(1, 3, 1, 4)
    valid = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    found = losses.composed(albedo, shading, light, valid, epsilon=0)
    assert_close(found, torch.tensor([(math.log(4) + math.log(2)) / 4]).double())


def test_composed_knows_no_exposure_and_lets_highlights_be() -> None:
    albedo, shading, valid = scene()
    light = albedo * shading
    factor = torch.tensor([0.1, 7.0]).double()[:, None, None, None]
    assert losses.composed(albedo, factor * shading, light, valid, epsilon=0).abs().max() < 1e-12
    light = light.clone()
    light[:, :, 0] += 50.0  # an eighth of the pixels shine; the factor of the others stays
    without = losses.composed(albedo, shading, light, valid & (light < 50).all(1, keepdim=True))
    assert without.abs().max() < 1e-12
    nobody = losses.composed(albedo, shading, light, torch.zeros_like(valid))
    assert nobody.tolist() == [0.0, 0.0]


def test_composed_has_the_gradient_of_its_values_and_a_finite_one_in_the_dark() -> None:
    albedo, shading, valid = scene(side=3)
    light = (albedo * shading * torch.linspace(0.5, 2, 9).reshape(1, 1, 3, 3)).clamp(max=1).detach()
    valid[:, :, 0, 0] = False
    albedo.requires_grad_(True)
    shading.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda a, s: losses.composed(a, s, light, valid), (albedo, shading))
    dark = torch.zeros(1, 3, 4, 4, requires_grad=True)
    every = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    losses.composed(dark, dark + 0.5, torch.rand(1, 3, 4, 4), every).sum().backward()
    assert dark.grad.isfinite().all() and dark.grad.abs().max() > 0

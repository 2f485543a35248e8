import pytest
import torch
from torch.testing import assert_close

from ilora.generators.objective import cells, latent_loss


def test_a_cell_is_valid_when_all_its_pixels_are() -> None:
    valid = torch.ones(1, 1, 4, 6, dtype=torch.bool)
    valid[0, 0, 3, 2] = False
    expected = torch.tensor([[[[True, True, True], [True, False, True]]]])
    assert torch.equal(cells(valid, 2), expected)


def test_loss_by_hand() -> None:
    target = torch.zeros(2, 2, 1, 2)
    estimate = torch.tensor([[[[1.0, 3.0]], [[1.0, 1.0]]], [[[2.0, 5.0]], [[0.0, 5.0]]]])  # [b, c, 1, 2]
    valid = torch.ones(2, 1, 2, 4, dtype=torch.bool)
    valid[1, 0, 0, 3] = False  # the second image keeps its first cell
    assert_close(latent_loss(estimate, target, valid), torch.tensor([(1 + 1 + 9 + 1) / 4, (4 + 0) / 2]))


def test_all_valid_is_the_published_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    estimate, target = torch.randn(2, 3, 4, 5, 5, generator=generator)
    valid = torch.ones(3, 1, 40, 40, dtype=torch.bool)
    independent = torch.stack([torch.nn.functional.mse_loss(a, b) for a, b in zip(estimate, target, strict=True)])
    assert_close(latent_loss(estimate, target, valid), independent)


def test_an_image_without_a_valid_cell_has_no_loss_and_no_gradient() -> None:
    estimate = torch.ones(2, 4, 2, 2, requires_grad=True)
    valid = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    valid[1] = True
    loss = latent_loss(estimate, torch.zeros(2, 4, 2, 2), valid)
    assert loss.tolist() == [0.0, 1.0]
    loss.sum().backward()
    assert estimate.grad[0].abs().max() == 0
    assert estimate.grad[1].abs().min() > 0


def test_half_precision_is_summed_in_float32() -> None:
    estimate = torch.full((1, 1, 64, 64), 3.0, dtype=torch.float16)
    valid = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    loss = latent_loss(estimate, torch.zeros_like(estimate), valid)  # the sum, 36,864, passes half precision's steps
    assert loss.dtype == torch.float32
    assert loss.item() == 9.0


def test_sides_that_no_cell_divides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 8 px, got 12 x 16"):
        cells(torch.ones(1, 1, 12, 16, dtype=torch.bool), 8)

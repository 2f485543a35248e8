import torch
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig
from ilora.generators import load
from ilora.generators.base import Generator


def test_it_follows_the_protocol() -> None:
    assert isinstance(load("toy"), Generator)


def test_the_codec_is_exact_and_orthonormal() -> None:
    toy = load("toy")
    image = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    code = toy.encode(image)
    assert code.shape == (2, 48, 8, 6)
    assert_close(toy.decode(code), image)
    assert_close(code.square().sum(), image.square().sum())  # lengths are kept


def test_a_grey_patch_has_one_coefficient() -> None:
    image = torch.full((1, 3, 4, 4), 0.5)
    expected = torch.zeros(48)
    expected[[0, 16, 32]] = 0.5 * 4  # the mean times the side, once a colour
    assert_close(load("toy").encode(image).flatten(), expected)


def test_it_is_the_same_every_time() -> None:
    first, second = load("toy"), load("toy")
    assert first.fingerprint == second.fingerprint
    image, code = first.sample([3, 4])
    alone, _ = second.sample([4])
    assert_close(image[1:], alone)
    assert_close(first.decode(code).clamp(-1, 1), image)


def test_size_keeps_area_and_aspect() -> None:
    assert load("toy").size(32, 32) == (32, 32)
    assert load("toy").size(600, 800) == (28, 36)


def test_an_adapter_learns_on_it() -> None:
    toy = load("toy")
    image, code = toy.sample(range(8))
    target = toy.target(-image)
    valid = torch.ones(8, 1, 32, 32, dtype=torch.bool)
    lora.attach(toy.network, AdapterConfig(rank=4), toy.targets["attention"])
    optimiser = torch.optim.AdamW(lora.trainable(toy.network), 1e-2)
    losses = []
    for _ in range(40):
        loss = toy.loss(code, target, valid).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_checkpointing_changes_no_gradient() -> None:
    grads = []
    for recompute in (False, True):
        toy = load("toy")
        if recompute:
            toy.network.enable_gradient_checkpointing()
        lora.attach(toy.network, AdapterConfig(rank=2), toy.targets["all"])
        _, code = toy.sample([0, 1])
        toy.loss(code, -code, torch.ones(2, 1, 32, 32, dtype=torch.bool)).sum().backward()
        grads.append([weight.grad for weight in lora.trainable(toy.network)])
    assert_close(grads[0], grads[1], rtol=0, atol=0)
    assert sum(grad.abs().sum() for grad in grads[0]) > 0

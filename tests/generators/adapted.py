"""What every adapter on every network of a generator must do, whatever the family."""

import torch
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig
from ilora.generators.base import Generator


def disturb(network: torch.nn.Module) -> None:
    """Move all weights that learn."""
    numbers = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in lora.trainable(network):
            weight.add_(0.1 * torch.randn(weight.shape, generator=numbers))


@torch.no_grad()
def check_life(generator: Generator, image: torch.Tensor) -> None:
    """Fresh and switched off it changes no bit, merged and loaded again it is itself, detached it is gone."""
    config, targets = AdapterConfig(rank=2), generator.targets["attention"]
    code = generator.encode(image)
    before, ceiling = generator.forward(code), generator.decode(generator.target(image))
    lora.attach(generator.network, config, targets)
    assert torch.equal(generator.forward(code), before)
    disturb(generator.network)
    adapted, state = generator.forward(code), lora.state(generator.network)
    assert (adapted - before).abs().max() > 1e-3
    with lora.disabled(generator.network):
        assert torch.equal(generator.forward(code), before)
    assert torch.equal(generator.decode(generator.target(image)), ceiling)
    lora.merge(generator.network)
    assert_close(generator.forward(code), adapted, rtol=1e-3, atol=1e-3)
    lora.detach(generator.network)
    assert torch.equal(generator.forward(code), before)
    lora.attach(generator.network, config, targets, seed=1)
    lora.load_state(generator.network, state)
    assert torch.equal(generator.forward(code), adapted)
    lora.detach(generator.network)


def check_learns(generator: Generator, image: torch.Tensor, *, steps: int = 30) -> None:
    """The native loss falls by a tenth and more towards another picture."""
    lora.attach(generator.network, AdapterConfig(rank=4), generator.targets["attention"])
    wanted = image.flip(1).roll(image.shape[2] // 4, 2)
    code, target = generator.encode(image), generator.target(wanted)
    valid = torch.ones_like(image[:, :1], dtype=torch.bool)
    optimizer = torch.optim.Adam(lora.trainable(generator.network), lr=3e-2)
    losses = []
    for _ in range(steps):
        loss = generator.loss(code, target, valid).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses
    lora.detach(generator.network)


@torch.no_grad()
def check_alive(generator: Generator, image: torch.Tensor, targets: str, *, method: str = "lora") -> None:
    """Each adapter by itself changes what is painted."""
    code = generator.encode(image)
    lora.attach(generator.network, AdapterConfig(method=method, rank=2), generator.targets[targets])
    before = generator.forward(code)
    for name, weight in generator.network.named_parameters():
        if ".lora_B." not in name:
            continue
        weight.add_(0.5)
        assert (generator.forward(code) - before).abs().max() > 1e-7, f"{name} changes nothing"
        weight.sub_(0.5)
    lora.detach(generator.network)

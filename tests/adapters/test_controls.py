import copy
import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from ilora.adapters import controls, lora
from ilora.config import AdapterConfig
from ilora.generators import load
from tests import tiny
from tests.adapters.test_lora import bits, noise, output, perturb, same


def test_the_same_seed_draws_the_same_network(unet: UNet2DConditionModel) -> None:
    trained, other = bits(unet), copy.deepcopy(unet)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    controls.randomise(unet, 5)
    assert torch.equal(torch.rand(3), expected)  # the global state is as it was
    first = bits(unet)
    controls.randomise(unet, 5)
    assert same(bits(unet), first)
    controls.randomise(other, 6)
    drawn = [name for name in first if first[name].unique().numel() > 1]  # gains and biases are born constant
    assert not any(torch.equal(first[name], bits(other)[name]) for name in drawn)
    assert not any(torch.equal(first[name], trained[name]) for name in drawn)


def test_half_precision_and_layout_draw_the_same_rounded(unet: UNet2DConditionModel) -> None:
    half = copy.deepcopy(unet).to(torch.bfloat16, memory_format=torch.channels_last)
    controls.randomise(unet, 5)
    controls.randomise(half, 5)
    assert all(torch.equal(tensor.to(torch.bfloat16), half.state_dict()[name]) for name, tensor in bits(unet).items())
    assert half.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_weights_are_those_of_birth() -> None:
    """Spread and constants of each parameter as the constructor leaves them, whatever was there before."""
    born = tiny.unet("1")
    network = copy.deepcopy(born)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(noise(*weight.shape) * 9 + 4)
    controls.randomise(network, 0)
    for (name, ours), theirs in zip(bits(network).items(), bits(born).values(), strict=True):
        if theirs.unique().numel() == 1:
            assert torch.equal(ours, theirs), name
        elif theirs.numel() >= 2000:
            assert (ours.std() / theirs.std()).item() == pytest.approx(1, abs=0.1), name
            assert ours.mean().abs() < 0.1 * ours.std(), name


def test_parameters_without_a_class_to_draw_them() -> None:
    network = load("toy").network
    network.gain = nn.Module()
    network.gain.weight, network.gain.offset = nn.Parameter(noise(5)), nn.Parameter(noise(5))
    before = network.position.clone()
    controls.randomise(network, 0)
    assert torch.equal(network.gain.weight, torch.ones(5))
    assert torch.equal(network.gain.offset, torch.zeros(5))
    assert not torch.equal(network.position, before)
    assert network.position.std().item() == pytest.approx(1 / math.sqrt(network.position[0].numel()), rel=0.1)


def test_attention_with_a_private_reset() -> None:
    network = nn.Sequential(nn.MultiheadAttention(8, 2), nn.BatchNorm1d(4))
    with torch.no_grad():
        for tensor in [*network.parameters(), network[1].running_mean]:
            tensor.fill_(7)
    controls.randomise(network, 0)
    bound = math.sqrt(6 / (8 + 24))  # Glorot: uniform in +-sqrt(6 / (inputs + outputs))
    assert 0.5 * bound < network[0].in_proj_weight.abs().max() <= bound
    assert network[0].out_proj.bias.abs().max() == 0
    assert torch.equal(network[1].running_mean, torch.zeros(4))


def test_a_network_with_an_adapter_is_not_drawn(unet: UNet2DConditionModel) -> None:
    lora.attach(unet, AdapterConfig(rank=2), ["to_q"])
    with pytest.raises(ValueError, match=r"draws a bare network, got one with .*lora_A.*; detach\(network\) first"):
        controls.randomise(unet, 0)


def test_full_moves_everything_and_comes_back(unet: UNet2DConditionModel) -> None:
    base, before = output(unet), bits(unet)
    count = lora.attach(unet, AdapterConfig(method="full"), "ignored")
    assert count.moving == count.total == sum(tensor.numel() for tensor in before.values())
    assert torch.equal(output(unet), base)
    perturb(unet, 0.01)
    moved = output(unet)
    weights = lora.state(unet)
    lora.merge(unet)
    lora.unmerge(unet)
    with lora.disabled(unet):
        assert torch.equal(output(unet), base)
    assert torch.equal(output(unet), moved)
    lora.detach(unet)
    assert same(bits(unet), before)
    lora.attach(unet, AdapterConfig(method="full"), "ignored")
    lora.load_state(unet, weights)
    assert torch.equal(output(unet), moved)


def test_scratch_starts_from_random_weights(unet: UNet2DConditionModel) -> None:
    base, drawn = output(unet), copy.deepcopy(unet)
    controls.randomise(drawn, 4)
    count = lora.attach(unet, AdapterConfig(method="scratch"), "ignored", seed=4)
    assert count.moving == count.total
    assert torch.equal(output(unet), output(drawn))
    with lora.disabled(unet):
        assert torch.equal(output(unet), base)
    lora.detach(unet)
    assert torch.equal(output(unet), base)


def test_all_weights_learn() -> None:
    toy = load("toy")
    _, code = toy.sample(range(4))
    lora.attach(toy.network, AdapterConfig(method="scratch"), "ignored")
    optimiser = torch.optim.AdamW(lora.trainable(toy.network), 3e-3)
    valid = torch.ones(4, 1, 32, 32, dtype=torch.bool)
    losses = []
    for _ in range(30):
        loss = toy.loss(code, -code, valid).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]

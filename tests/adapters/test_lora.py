import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig
from ilora.generators import load
from ilora.generators.latent_diffusion import TARGETS

METHODS = ("lora", "dora", "rslora")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def output(unet: UNet2DConditionModel) -> Tensor:
    with torch.no_grad():
        dtype = unet.conv_in.weight.dtype
        return unet(noise(2, 4, 8, 8).to(dtype), 999, encoder_hidden_states=noise(2, 7, 64, seed=1).to(dtype)).sample


def perturb(network: nn.Module, size: float = 0.05) -> None:
    """Move every weight of the adapter."""
    with torch.no_grad():
        for number, weight in enumerate(lora.trainable(network)):
            weight += size * noise(*weight.shape, seed=number)


def bits(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_count_by_hand() -> None:
    assert str(lora.Count(98_304, 6_037_124)) == "98,304 of 6,037,124 weights move (1.63 %)"
    network = nn.Sequential(nn.Linear(5, 3), nn.Conv2d(2, 4, 3, bias=False))
    count = lora.attach(network, AdapterConfig(rank=2), r"0|1")
    linear, convolution = 2 * (5 + 3), 2 * (2 * 9 + 4)
    assert count == lora.Count(linear + convolution, 5 * 3 + 3 + 2 * 4 * 9)


def test_count_of_the_published_adapter() -> None:
    """Stable Diffusion 1.5, all 32 attention modules: 199,296 weights a rank (field notes, section 1)."""
    with torch.device("meta"):
        real = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    width = {name: module.in_features + module.out_features for name, module in real.named_modules()
             if isinstance(module, nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0"))}  # fmt: skip
    assert lora.adaptable(real, TARGETS["attention"]).keys() == width.keys() and len(width) == 4 * 32
    assert sum(width.values()) == 199_296


@pytest.mark.parametrize(("method", "targets"), [("lora", "all"), ("dora", "attention+conv"), ("rslora", "attention")])
def test_the_life_of_an_adapter(unet: UNet2DConditionModel, method: str, targets: str) -> None:
    base, before = output(unet), bits(unet)
    lora.attach(unet, AdapterConfig(method=method, rank=3, alpha=4.5), TARGETS[targets], seed=7)
    assert torch.equal(output(unet), base)  # fresh: to the bit
    perturb(unet)
    adapted = output(unet)
    assert (adapted - base).abs().max() > 1e-2
    with lora.disabled(unet):
        assert torch.equal(output(unet), base)
    assert torch.equal(output(unet), adapted)
    lora.merge(unet)
    merged = output(unet)
    assert_close(merged, adapted, rtol=1e-3, atol=1e-4)
    with lora.disabled(unet):
        assert torch.equal(output(unet), base)
    assert torch.equal(output(unet), merged)
    lora.merge(unet)
    assert torch.equal(output(unet), merged)  # a second time changes nothing
    lora.unmerge(unet)
    assert torch.equal(output(unet), adapted)
    lora.detach(unet)
    assert torch.equal(output(unet), base)
    assert same(bits(unet), before)
    assert not any(weight.requires_grad for weight in unet.parameters())


@pytest.mark.parametrize(
    ("method", "targets", "dtype"), [("lora", "ff", torch.float16), ("dora", "attention+conv", torch.bfloat16)]
)
def test_half_precision_bases(unet: UNet2DConditionModel, method: str, targets: str, dtype: torch.dtype) -> None:
    reference = copy.deepcopy(unet)
    for network in (unet.to(dtype), reference):
        base = output(network)
        lora.attach(network, AdapterConfig(method=method, rank=2), TARGETS[targets], seed=1)
        assert torch.equal(output(network), base)
    assert {weight.dtype for weight in lora.trainable(unet)} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        fresh = output(reference)
        with lora.disabled(reference):
            assert torch.equal(output(reference), fresh)
    down = [key for key in lora.state(unet) if key.endswith("lora_A.weight")]
    assert all(torch.equal(lora.state(unet)[key], lora.state(reference)[key]) for key in down)  # drawn in float32
    perturb(unet)
    before = bits(unet)
    adapted = output(unet)
    lora.merge(unet)
    assert_close(output(unet), adapted, rtol=0, atol=0.15)
    lora.unmerge(unet)
    assert same(bits(unet), before)


def test_the_start_follows_the_seed_alone(unet: UNet2DConditionModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    other = copy.deepcopy(unet)
    lora.attach(unet, AdapterConfig(rank=4), TARGETS["attention"], seed=11)
    assert torch.equal(torch.rand(3), expected)  # nobody else's random numbers were used up
    lora.attach(other, AdapterConfig(rank=4), TARGETS["attention"], seed=11)
    assert same(lora.state(unet), lora.state(other))
    lora.detach(other)
    lora.attach(other, AdapterConfig(rank=4), TARGETS["attention"], seed=12)
    assert not same(lora.state(unet), lora.state(other))
    down = torch.cat([tensor.flatten() for key, tensor in lora.state(unet).items() if "lora_A" in key])
    assert down.std().item() == pytest.approx(1 / 4, rel=0.05)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_saved_is_loaded(unet: UNet2DConditionModel, method: str) -> None:
    other = copy.deepcopy(unet)
    config = AdapterConfig(method=method, rank=2)
    for network, seed in ((unet, 0), (other, 1)):
        lora.attach(network, config, TARGETS["attention+conv"], seed=seed)
    perturb(unet)
    weights = lora.state(unet)
    lora.load_state(other, weights)
    assert torch.equal(output(unet), output(other))
    perturb(unet)
    assert same(lora.state(other), weights)  # what was given out is a copy


@pytest.mark.parametrize(("method", "targets"), [("lora", "all"), ("dora", "ff")])
def test_every_layers_adapter_is_alive(unet: UNet2DConditionModel, method: str, targets: str) -> None:
    lora.attach(unet, AdapterConfig(method=method, rank=1), TARGETS[targets])
    perturb(unet)
    given = noise(1, 4, 4, 4), 999, noise(1, 2, 64, seed=1)
    dead = []
    with torch.no_grad():
        start = unet(*given).sample
        for name, layer in lora._layers(unet):
            kept = {key: weight.clone() for key, weight in layer.state_dict().items() if "lora_" in key}
            layer.load_state_dict({key: weight * 1.5 + 0.1 for key, weight in kept.items()}, strict=False)
            if torch.equal(unet(*given).sample, start):
                dead.append(name)
            layer.load_state_dict(kept, strict=False)
        assert torch.equal(unet(*given).sample, start)
    assert dead == []


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_adapter_alone(unet: UNet2DConditionModel, method: str) -> None:
    lora.attach(unet, AdapterConfig(method=method, rank=2), TARGETS["attention+conv"])
    perturb(unet)
    sample = unet(noise(1, 4, 8, 8), 999, encoder_hidden_states=noise(1, 7, 64, seed=1)).sample
    sample.square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in lora.trainable(unet))
    learning = {id(weight) for weight in lora.trainable(unet)}
    assert [
        name for name, weight in unet.named_parameters() if weight.grad is not None and id(weight) not in learning
    ] == []


def test_scale_by_hand() -> None:
    """y = W x + alpha / r B A x; rank-stabilised with the root of r."""
    for method, scale in (("lora", 6 / 4), ("rslora", 6 / 2)):
        network = nn.Sequential(nn.Linear(3, 2, bias=False))
        weight = network[0].weight.detach().clone()
        lora.attach(network, AdapterConfig(method=method, rank=4, alpha=6.0), ["0"])
        down, up = noise(4, 3), noise(2, 4, seed=1)
        lora.load_state(network, {"0.lora_A.weight": down, "0.lora_B.weight": up})
        x = noise(5, 3, seed=2)
        assert_close(network(x), x @ (weight + scale * up @ down).T)


def test_dora_by_hand() -> None:
    """Liu et al. 2024, eq. 5: W' = m (W + B A) / ||W + B A||, row by row."""
    network = nn.Sequential(nn.Linear(3, 2, bias=False))
    weight = network[0].weight.detach().clone()
    lora.attach(network, AdapterConfig(method="dora", rank=1), ["0"])
    assert_close(lora.state(network)["0.lora_magnitude_vector"], weight.norm(dim=1))
    down, up, magnitude = noise(1, 3), noise(2, 1, seed=1), torch.tensor([0.5, 2.0])
    state = {"0.lora_A.weight": down, "0.lora_B.weight": up, "0.lora_magnitude_vector": magnitude}
    lora.load_state(network, state)
    moved = weight + up @ down
    x = noise(5, 3, seed=2)
    assert_close(network(x), x @ (magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)).T)


def test_what_learns_is_what_learned_before_disabling(unet: UNet2DConditionModel) -> None:
    lora.attach(unet, AdapterConfig(rank=2), TARGETS["attention"])
    frozen = lora.trainable(unet)[0].requires_grad_(False)
    with lora.disabled(unet):
        pass
    assert not frozen.requires_grad
    assert all(weight.requires_grad for weight in lora.trainable(unet)[1:])
    with pytest.raises(RuntimeError, match="inside"), lora.disabled(unet):
        raise RuntimeError("inside")
    perturb(unet)
    with lora.disabled(unet):
        base = output(unet)
    assert not torch.equal(output(unet), base)  # back on after an error, too


def test_a_network_without_an_adapter_is_left_alone(unet: UNet2DConditionModel) -> None:
    base = output(unet)
    with lora.disabled(unet):
        assert torch.equal(output(unet), base)
    assert not lora.attached(unet)
    for function in (lora.trainable, lora.state, lora.merge, lora.unmerge, lora.detach):
        with pytest.raises(ValueError, match="must carry an adapter, got a bare UNet2DConditionModel"):
            function(unet)


def test_a_copy_of_an_adapted_network_lives_on_its_own(unet: UNet2DConditionModel) -> None:
    base = output(unet)
    lora.attach(unet, AdapterConfig(rank=2), TARGETS["attention"])
    perturb(unet)
    lora.merge(unet)
    other = copy.deepcopy(unet)
    lora.detach(unet)
    assert torch.equal(output(unet), base)
    assert not torch.equal(output(other), base)
    lora.detach(other)
    assert torch.equal(output(other), base)


@pytest.mark.parametrize(
    ("config", "targets", "message"),
    [
        (
            {"method": "lokr"},
            ".*",
            "method must be one of lora, dora, rslora, eva, full, scratch, ridge, head, got 'lokr'",
        ),
        ({"rank": 0}, ".*", "rank must be at least 1, got 0"),
        ({}, "attn", r"targets 'attn' match none of the network's \d+ linear and convolution layers; .* look like"),
        ({}, ["nothing"], r"targets \['nothing'\] match none"),
    ],
)
def test_what_cannot_be_attached(unet: UNet2DConditionModel, config: dict, targets: str | list, message: str) -> None:
    before = output(unet)
    with pytest.raises(ValueError, match=message):
        lora.attach(unet, AdapterConfig(**config), targets)
    assert not lora.attached(unet)
    assert torch.equal(output(unet), before)


def test_what_cannot_be_loaded(unet: UNet2DConditionModel) -> None:
    lora.attach(unet, AdapterConfig(rank=2), TARGETS["attention"])
    with pytest.raises(ValueError, match=r"already carries AdapterConfig.*detach\(network\) first"):
        lora.attach(unet, AdapterConfig(), TARGETS["attention"])
    weights = lora.state(unet)
    name = next(iter(weights))
    with pytest.raises(ValueError, match=rf"hold the adapter's \d+ tensors, got \d+; they differ in .*{name}"):
        lora.load_state(unet, {key: tensor for key, tensor in weights.items() if key != name})
    with pytest.raises(ValueError, match=r"must be \(2, \d+\), got \(3, \d+\); attach with the same rank"):
        lora.load_state(unet, {**weights, name: noise(3, weights[name].shape[1])})
    lora.merge(unet)
    with pytest.raises(ValueError, match="is merged, got new weights"):
        lora.load_state(unet, weights)


def test_targets_as_a_list_are_last_parts_of_names() -> None:
    toy = load("toy")
    by_list = lora.attach(toy.network, AdapterConfig(rank=2), ["to_q", "to_out.0"])
    lora.detach(toy.network)
    assert by_list == lora.attach(toy.network, AdapterConfig(rank=2), r".*\.(to_q|to_out\.0)")

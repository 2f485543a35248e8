"""Diffusion transformers on tiny random checkpoints of their real classes, beside the stock pipelines of diffusers."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig, Readout
from ilora.generators import flow_matching, load
from ilora.generators.base import Denoiser
from ilora.generators.flow_matching import FlowMatching
from tests import tiny_flow

OUTPUT = Readout(timestep=600, image=0.0, output=1.0)  # the network's output itself
PROMPT = "depth map"
TIMES = {  # what each denoiser is told at time step 600 of 1000, and at the first of its own steps; by hand
    "sd3": (600.0, 1000.0),
    "flux": (0.6, 1.0),
    "flux2": (0.6, 1.0),
    "qwen-image": (0.6, 1.0),
    "z-image": (0.4, 0.0),
    "sana": (300.0, 500.0),  # of 1000, times a timestep_scale of 0.5
    "pixart-sigma": (600.0, 999.0),
}

Made = tuple[str, Any, Path]


@pytest.fixture(scope="module", params=tiny_flow.FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Family, stock pipeline and folder of a tiny random checkpoint."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, tiny_flow.write(request.param, folder), folder


@pytest.fixture(scope="module")
def opened(made: Made) -> FlowMatching:
    generator = load(str(made[2]))
    generator.resolution = tiny_flow.SIDE  # of Qwen-Image, whose files do not tell
    return generator


@pytest.fixture
def generator(opened: FlowMatching) -> Iterator[FlowMatching]:
    """It, bare again after each test."""
    opened.ask(PROMPT)
    opened.readout = OUTPUT
    yield opened
    if lora.attached(opened.network):
        lora.detach(opened.network)


def picture(batch: int = 2, side: int = tiny_flow.SIDE) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def adapt(generator: FlowMatching, targets: str = "attention", *, moved: bool = True) -> list[torch.nn.Parameter]:
    """An adapter, far from nothing if ``moved``."""
    lora.attach(generator.network, AdapterConfig(rank=2), generator.targets[targets])
    weights = lora.trainable(generator.network)
    with torch.no_grad():
        for number, weight in enumerate(weights if moved else []):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) * 0.3)
    return weights


def stock_options(generator: FlowMatching, **given: Any) -> dict[str, Any]:
    side = {"height": tiny_flow.SIDE, "width": tiny_flow.SIDE}
    draws = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    return {**generator.family.options, **side, "prompt": [PROMPT] * 2, "generator": draws, **given}


def test_it_follows_the_protocol_and_is_recognised(made: Made, generator: FlowMatching) -> None:
    assert isinstance(generator, Denoiser)
    assert flow_matching.recognises(str(made[2]))
    assert generator.factor == (4 if made[0] == "flux2" else 2)
    fresh = load(str(made[2]))
    assert fresh.resolution == (flow_matching.SIDE if made[0] == "qwen-image" else tiny_flow.SIDE)
    assert fresh.fingerprint == generator.fingerprint
    assert not any(weight.requires_grad for part in (fresh.network, fresh.codec) for weight in part.parameters())


def test_the_replayed_call_is_that_of_the_stock_pipeline(made: Made, generator: FlowMatching) -> None:
    family, stock, _ = made
    row, seen, outputs = generator.family, [], []
    place = 1 if family == "z-image" else None  # it is called by position

    def before(_: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        seen.append((args[0] if args else named[row.sample], args[place] if place else named[row.time]))
        time = torch.full((2,), TIMES[family][0])
        return ((args[0], time, *args[2:]), named) if place else (args, {**named, row.time: time})

    handles = [
        stock.transformer.register_forward_pre_hook(before, with_kwargs=True),
        stock.transformer.register_forward_hook(lambda _, given, output: outputs.append(output[0])),
    ]
    stock(**stock_options(generator, num_inference_steps=1, output_type="latent", **dict([row.guidance])))
    for handle in handles:
        handle.remove()
    (sample, time), cells = seen[0], tiny_flow.SIDE // generator.factor
    assert_close(time.float(), torch.full((2,), TIMES[family][1]))  # the flow's noise level is t / 1000
    code = row.packing.unpack(sample, cells, cells)
    packed = row.packing.pack(code)
    assert_close(packed, list(sample) if isinstance(sample, list) else sample)  # a round trip
    painted = generator.paint(code)
    expected = row.packing.unpack(outputs[0], cells, cells)
    assert painted.shape == code.shape
    assert_close(painted, expected[:, : code.shape[1]].float(), rtol=1e-4, atol=1e-5)


def test_samples_are_those_of_the_stock_pipeline(made: Made, generator: FlowMatching) -> None:
    expected = made[1](
        **stock_options(generator, num_inference_steps=2, output_type="pt", **generator.family.sampling)
    ).images
    images, codes = generator.sample([3, 4], PROMPT, steps=2)
    assert_close(images / 2 + 0.5, expected, rtol=0, atol=2e-5)
    assert torch.equal(generator.decode(codes).clamp(-1, 1), images)
    alone, _ = generator.sample([4], PROMPT, steps=2)
    assert_close(images[1:], alone, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"one for each of the 2 seeds, got 3"):
        generator.sample([3, 4], ["a"] * 3)


def test_codes_are_normalised_means(made: Made, generator: FlowMatching) -> None:
    family, stock, _ = made
    image = picture()
    with torch.no_grad():
        given = image[:, :, None] if family == "qwen-image" else image
        encoded = stock.vae.encode(given)
        raw = encoded.latent if family == "sana" else encoded.latent_dist.mean
        expected = stock.vae.decode(raw).sample.reshape(image.shape)
    code = generator.encode(image)
    assert_close(generator.decode(code), expected, rtol=0, atol=1e-5)
    assert torch.equal(generator.target(image), code)
    assert_close(code[:1], generator.encode(image[:1]), rtol=0, atol=1e-5)
    if family in ("sd3", "flux", "z-image"):
        config = stock.vae.config
        assert_close(code, (raw - config.shift_factor) * config.scaling_factor)


def test_an_adapter_learns(generator: FlowMatching) -> None:
    code, target = generator.encode(picture(1)), generator.target(-picture(1))
    weights = adapt(generator, moved=False)
    optimiser, losses = torch.optim.AdamW(weights, 3e-2), []
    for _ in range(5):
        loss = generator.loss(code, target, torch.ones(1, 1, 32, 32, dtype=torch.bool)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    assert not [name for name, weight in generator.codec.named_parameters() if weight.grad is not None]


@torch.no_grad()
def test_the_life_of_an_adapter(generator: FlowMatching) -> None:
    code = generator.encode(picture())
    base = generator.paint(code)
    adapt(generator, "attention+conv", moved=False)
    assert torch.equal(generator.paint(code), base)  # fresh
    lora.detach(generator.network)
    adapt(generator, "attention+conv")
    adapted, saved = generator.paint(code), lora.state(generator.network)
    assert (adapted - base).abs().max() > 1e-3
    with lora.disabled(generator.network):
        assert torch.equal(generator.paint(code), base)
    lora.merge(generator.network)
    assert_close(generator.paint(code), adapted, rtol=1e-4, atol=1e-4)
    lora.detach(generator.network)
    assert torch.equal(generator.paint(code), base)
    adapt(generator, "attention+conv", moved=False)
    lora.load_state(generator.network, saved)
    assert torch.equal(generator.paint(code), adapted)


@torch.no_grad()
def test_every_adapter_is_alive(generator: FlowMatching) -> None:
    code = generator.encode(picture(1))
    adapt(generator, "all", moved=False)
    base, dead = generator.paint(code), []
    for name, layer in generator.network.named_modules():
        if hasattr(layer, "lora_B"):
            up = layer.lora_B["default"].weight
            up.fill_(3.0)
            dead += [] if (generator.paint(code) - base).abs().max() > 1e-7 else [name]
            up.zero_()
    assert dead == []


def test_what_is_left_out_is_dead(made: Made, generator: FlowMatching) -> None:
    """So that ``all`` leaves out no layer that could learn."""
    names = [name for name, module in generator.network.named_modules() if isinstance(module, lora.ADAPTABLE)]
    left = [name for name in names if not re.fullmatch(generator.targets["all"], name)]
    text = [f"transformer_blocks.1.{name}" for name in ("txt_mlp.net.0.proj", "txt_mlp.net.2")]
    ends = {"sd3": ["add_q_proj"], "qwen-image": ["add_q_proj", "to_add_out"]}.get(made[0], [])
    expected = [f"transformer_blocks.1.attn.{name}" for name in ends] + (text if made[0] == "qwen-image" else [])
    assert sorted(left) == sorted(expected)
    code = generator.encode(picture(1))
    with torch.no_grad():
        base = generator.paint(code)
        for name in left:
            weight = generator.network.get_submodule(name).weight
            weight.add_(1)
            assert torch.equal(generator.paint(code), base)
            weight.sub_(1)


@torch.no_grad()
def test_sizes_and_batches(generator: FlowMatching) -> None:
    height, width = generator.size(120, 200)
    assert (height % 4, width % 4, height < width) == (0, 0, True)
    wide = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1
    code = generator.encode(wide)
    painted = generator.paint(code)
    assert generator.decode(painted).shape == wide.shape
    assert_close(painted[1:2], generator.paint(code[1:2]), rtol=1e-4, atol=1e-5)
    assert_close(generator.forward(code), generator.decode(painted), rtol=1e-4, atol=1e-4)
    generator.ask("a room with red sofa")
    assert (generator.paint(code) - painted).abs().max() > 1e-6  # the prompt matters
    generator.ask(PROMPT)
    assert torch.equal(generator.paint(code), painted)


def test_recomputed_activations_give_the_same_gradients_through_the_decoder(made: Made, opened: FlowMatching) -> None:
    grads, code = [], opened.encode(picture())
    for recompute in (False, True):
        generator = load(str(made[2]), readout=OUTPUT)
        if recompute:
            generator.network.enable_gradient_checkpointing()
        weights = adapt(generator)
        generator.forward(code).square().mean().backward()
        grads.append([weight.grad for weight in weights])
    assert sum(grad.abs().sum() for grad in grads[0]) > 0
    assert_close(grads[0], grads[1])


def test_bfloat16_under_a_float32_adapter(made: Made, generator: FlowMatching) -> None:
    code, valid = generator.encode(picture()), torch.ones(2, 1, 32, 32, dtype=torch.bool)
    exact = generator.paint(code)
    half = load(str(made[2]), readout=OUTPUT)
    half.ask(PROMPT)
    half.network.to(torch.bfloat16)
    weights = adapt(half, moved=False)
    with torch.autocast("cpu", torch.bfloat16):
        loss = half.loss(code, -code, valid)
    loss.sum().backward()
    assert {weight.grad.dtype for weight in weights} == {torch.float32}
    rounded = half.paint(code).detach()
    assert rounded.dtype == torch.float32
    assert_close(rounded, exact, rtol=0, atol=0.1 * exact.abs().max().item())


def test_text_encoders_are_needed_once_a_prompt(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made[2], tmp_path / "copy")
    generator = load(str(folder), readout=OUTPUT)
    generator.ask("albedo")
    code = generator.encode(picture())
    expected = generator.paint(code)
    for part in folder.glob("text_encoder*"):
        (part / "config.json").write_text("{")
    again = load(str(folder), readout=OUTPUT)
    again.ask("albedo")  # from the disk cache, whatever the size
    assert torch.equal(again.paint(code), expected)
    again.paint(again.encode(picture(1, side=64)))
    again.ask("shading")
    with pytest.raises(OSError, match=r"text_encoder"):
        again.paint(code)

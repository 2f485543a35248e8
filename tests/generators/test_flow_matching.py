"""Diffusion transformers on tiny random checkpoints of their real classes, beside the stock pipelines of diffusers."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from ilora.adapters import file, formats, lora
from ilora.config import AdapterConfig, Readout
from ilora.generators import flow_matching, load
from ilora.generators.base import Denoiser
from ilora.generators.flow_matching import FlowMatching
from tests import tiny_flow
from tests.adapters.test_file import ABOUT

OUTPUT = Readout(timestep=600, image=0.0, output=1.0)  # the network's output itself
PROMPT = "depth map"
TIMES = {  # what each denoiser is told at time step 600 of 1000, and at the first of its own steps; by hand
    "sd3": (600.0, 1000.0),
    "flux": (0.6, 1.0),
    "flux2": (0.6, 1.0),
    "flux2-dev": (0.6, 1.0),
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
    if made[0] == "qwen-image":  # its files do not tell
        assert generator.resolution == flow_matching.SIDE
        generator.resolution = side(generator)
    return generator


@pytest.fixture
def generator(made: Made, opened: FlowMatching, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlowMatching]:
    """It, bare again after each test."""
    monkeypatch.setenv("ILORA_CACHE", str(made[2] / "cache"))  # one for all tests of a family: prompts are encoded once
    opened.ask(PROMPT)
    opened.readout = OUTPUT
    yield opened
    if lora.attached(opened.network):
        lora.detach(opened.network)


def side(generator: FlowMatching) -> int:
    return tiny_flow.SIDES["sana"] if "SanaPipeline" in generator.family.pipelines else tiny_flow.SIDE


def picture(generator: FlowMatching, batch: int = 2) -> torch.Tensor:
    size = side(generator)
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def adapt(generator: FlowMatching, targets: str = "attention", *, moved: bool = True) -> list[torch.nn.Parameter]:
    """An adapter, far from nothing if ``moved``."""
    lora.attach(generator.network, AdapterConfig(rank=2), generator.targets[targets])
    weights = lora.trainable(generator.network)
    with torch.no_grad():
        for number, weight in enumerate(weights if moved else []):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) * 0.3)
    return weights


def stock_options(generator: FlowMatching, **given: Any) -> dict[str, Any]:
    size = {"height": side(generator), "width": side(generator)}
    draws = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    return {**generator.family.options, **size, "prompt": [PROMPT] * 2, "generator": draws, **given}


def test_it_follows_the_protocol_and_is_recognised(made: Made, generator: FlowMatching) -> None:
    assert isinstance(generator, Denoiser)
    assert flow_matching.recognises(str(made[2]))
    assert generator.factor == (4 if made[0] == "flux2" else 2)
    assert generator.resolution == side(generator)
    assert not any(
        weight.requires_grad for part in (generator.network, generator.codec) for weight in part.parameters()
    )


@pytest.mark.parametrize("made", [*tiny_flow.FAMILIES, "flux2-dev"], indirect=True, scope="module")
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
    (sample, time), cells = seen[0], side(generator) // generator.factor
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
        **stock_options(generator, num_inference_steps=1, output_type="pt", **generator.family.sampling)
    ).images
    images, codes = generator.sample([3, 4], PROMPT, steps=1)
    assert_close(images / 2 + 0.5, expected, rtol=0, atol=2e-5)
    assert torch.equal(generator.decode(codes).clamp(-1, 1), images)
    if made[0] == "sd3":
        alone, _ = generator.sample([4], PROMPT, steps=1)
        assert_close(images[1:], alone, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"one for each of the 2 seeds, got 3"):
        generator.sample([3, 4], ["a"] * 3)


def test_codes_are_normalised_means(made: Made, generator: FlowMatching) -> None:
    family, stock, _ = made
    image = picture(generator)
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
    generator.readout = Readout(timestep=600, image=0.0, output=None)
    code, target = generator.encode(picture(generator, 1)), generator.target(-picture(generator, 1))
    weights = adapt(generator, moved=False)
    optimiser, losses = torch.optim.AdamW(weights, 3e-2), []
    for _ in range(5):
        loss = generator.loss(code, target, torch.ones(1, 1, *[side(generator)] * 2, dtype=torch.bool)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    assert not [name for name, weight in generator.codec.named_parameters() if weight.grad is not None]


@torch.no_grad()
def test_the_life_of_an_adapter(generator: FlowMatching) -> None:
    code = generator.encode(picture(generator))
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


def test_every_adapter_is_alive(generator: FlowMatching) -> None:
    code = generator.encode(picture(generator, 1))
    adapt(generator, "all", moved=False)
    ups = {name: weight for name, weight in generator.network.named_parameters() if "lora_B" in name}
    painted = generator.paint(code)
    (painted * torch.randn(painted.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert [name for name, up in ups.items() if up.grad.abs().max() == 0] == []
    dead = []
    with torch.no_grad():
        for name in [name for name in ups if re.fullmatch(generator.targets["attention"], name.split(".lora_B")[0])]:
            ups[name].fill_(3.0)
            dead += [] if (generator.paint(code) - painted).abs().max() > 1e-7 else [name]
            ups[name].zero_()
    assert dead == []


def test_what_is_left_out_is_dead(made: Made, generator: FlowMatching) -> None:
    """So that ``all`` leaves out no layer that could learn."""
    names = [name for name, module in generator.network.named_modules() if isinstance(module, lora.ADAPTABLE)]
    left = [name for name in names if not re.fullmatch(generator.targets["all"], name)]
    text = [f"transformer_blocks.1.{name}" for name in ("txt_mlp.net.0.proj", "txt_mlp.net.2")]
    ends = {"sd3": ["add_q_proj"], "qwen-image": ["add_q_proj", "to_add_out"]}.get(made[0], [])
    expected = [f"transformer_blocks.1.attn.{name}" for name in ends] + (text if made[0] == "qwen-image" else [])
    assert sorted(left) == sorted(expected)
    code = generator.encode(picture(generator, 1))
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


def test_recomputed_activations_give_the_same_gradients_through_the_decoder(generator: FlowMatching) -> None:
    grads, code = [], generator.encode(picture(generator, 1))
    weights = adapt(generator)
    for recompute in (
        generator.network.enable_gradient_checkpointing,
        generator.network.disable_gradient_checkpointing,
    ):
        recompute()
        grads.append(torch.autograd.grad(generator.forward(code).square().mean(), weights))
    assert sum(grad.abs().sum() for grad in grads[0]) > 0
    assert_close(grads[0], grads[1])


def test_bfloat16_under_a_float32_adapter(generator: FlowMatching) -> None:
    code, network = generator.encode(picture(generator)), generator.network
    exact = generator.paint(code)
    kept = {name: tensor.clone() for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    network.to(torch.bfloat16)
    weights = adapt(generator, moved=False)
    with torch.autocast("cpu", torch.bfloat16):
        painted = generator.paint(code)
    assert {grad.dtype for grad in torch.autograd.grad(painted.sum(), weights)} == {torch.float32}
    assert painted.dtype == torch.float32
    assert_close(painted, exact, rtol=0, atol=0.1 * exact.abs().max().item())
    lora.detach(generator.network)
    network.to(torch.float32)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):  # also those that no file holds
        tensor.data.copy_(kept[name])
    assert torch.equal(generator.paint(code), exact)


@pytest.mark.parametrize("made", ["sd3", "z-image"], indirect=True, scope="module")  # tensors, and lists of them
def test_text_encoders_are_needed_once_a_prompt(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(made[2], tmp_path / "copy")
    generator = load(str(folder), readout=OUTPUT)
    generator.ask("albedo")
    code = generator.encode(picture(generator, 1))
    with torch.autocast("cpu", torch.bfloat16):
        generator.paint(code)  # fills the cache, with words that were not rounded for it
    expected = generator.paint(code)
    monkeypatch.setenv("ILORA_CACHE", str(tmp_path / "empty"))
    fresh = load(str(folder), readout=OUTPUT)
    fresh.ask("albedo")
    assert torch.equal(fresh.paint(code), expected)
    again = load(str(folder), readout=OUTPUT)
    assert again.fingerprint == fresh.fingerprint  # read before the files are spoilt
    for part in folder.glob("text_encoder*"):
        (part / "config.json").write_text("{")
    again.ask("albedo")  # from the disk cache, whatever the size
    assert torch.equal(again.paint(code), expected)
    again.paint(again.encode(torch.zeros(1, 3, 24, 32)))
    again.ask("shading")
    with pytest.raises(OSError, match=r"text_encoder"):
        again.paint(code)


@pytest.mark.parametrize("made", ["sd3", "flux2"], indirect=True, scope="module")  # FLUX.2 has an odd to_out
@torch.no_grad()
def test_stock_diffusers_reads_an_exported_adapter(made: Made, generator: FlowMatching, tmp_path: Path) -> None:
    code = generator.encode(picture(generator, 1))
    adapt(generator)
    expected, config = generator.paint(code), AdapterConfig(rank=2).write()
    file.write(tmp_path / "run" / file.FILE, lora.state(generator.network), ABOUT.replace(adapter=config))
    path = formats.export(tmp_path / "run", "diffusers", tmp_path / "out")
    other = load(str(made[2]), readout=OUTPUT)
    other.ask(PROMPT)
    other.network.load_lora_adapter(load_file(path), prefix="transformer")
    assert_close(other.paint(code), expected, rtol=1e-4, atol=1e-4)
    lora.detach(generator.network)
    weights, config = formats.read(path, generator.network)
    lora.attach(generator.network, config, config.targets)
    lora.load_state(generator.network, weights)
    assert_close(generator.paint(code), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="kohya has names for U-Nets only"):
        formats.export(tmp_path / "run", "kohya", tmp_path / "out")


def test_what_is_not_ours_is_told(tmp_path: Path) -> None:
    assert flow_matching.recognises("black-forest-labs/FLUX.1-dev")  # never fetched, known by name
    names = ("toy", "rooms-diffusion", "stable-diffusion-v1-5/stable-diffusion-v1-5", str(tmp_path), "a/b/c")
    assert not any(flow_matching.recognises(name) for name in names)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": "FluxFillPipeline"}))
    assert not flow_matching.recognises(str(tmp_path))
    options = {"device": "cpu", "dtype": torch.float32, "readout": OUTPUT}
    with pytest.raises(ValueError, match=r"one of StableDiffusion3Pipeline, FluxPipeline, .*, got FluxFillPipeline"):
        flow_matching.load(str(tmp_path), **options)
    index.write_text(json.dumps({"_class_name": "FluxPipeline", "vae": ["os", "system"]}))
    known = "must be a model, scheduler or tokenizer of"
    for given, words in (
        (["os", "system"], r"must be a class of diffusers or transformers, got \['os', 'system'\]"),
        (["diffusers", "AutoencoderKL", "more"], "must be a class of diffusers or transformers"),
        (["diffusers", "AutoencoderKM"], rf"{known} diffusers .*, got 'AutoencoderKM'; .* pip install -U diffusers"),
        (["diffusers", "FluxPipeline"], rf"{known} diffusers .*, got 'FluxPipeline'"),  # its parts would be imported
        (["diffusers", "utils"], rf"{known} diffusers .*, got 'utils'"),
        (["transformers", "AutoModel"], rf"{known} transformers .*, got 'AutoModel'"),
    ):
        index.write_text(json.dumps({"_class_name": "FluxPipeline", "vae": given}))
        with pytest.raises(ValueError, match=rf"vae of .* {words}"):
            flow_matching.load(str(tmp_path), **options)
    index.write_text(json.dumps({"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(FileNotFoundError, match=r"transformer holds no weights"):
        flow_matching.load(str(tmp_path), **options)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "diffusers.py").write_text("raise SystemExit")  # some versions of diffusers would run it
    with pytest.raises(ValueError, match=r"expected weights and settings alone in .*diffusers\.py; take it out"):
        flow_matching.load(str(tmp_path), **options)


@pytest.mark.parametrize("made", ["sd3"], indirect=True, scope="module")
def test_the_fingerprint_is_of_settings_too(made: Made, tmp_path: Path) -> None:
    """Codes are shifted and scaled by the codec's configuration."""
    folder = shutil.copytree(made[2], tmp_path / "another name")
    before = load(str(made[2])).fingerprint
    assert load(str(folder)).fingerprint == before
    for part, change in (("vae/config", {"shift_factor": 0.5}), ("scheduler/scheduler_config", {"shift": 1.0})):
        settings = folder / f"{part}.json"
        kept = settings.read_text()
        settings.write_text(json.dumps(json.loads(kept) | change))
        assert load(str(folder)).fingerprint != before
        settings.write_text(kept)
    assert load(str(folder)).fingerprint == before


@pytest.mark.parametrize("made", ["sd3"], indirect=True, scope="module")
def test_a_readout_of_the_wrong_sign_is_told(generator: FlowMatching, recwarn: pytest.WarningsRecorder) -> None:
    code, valid = generator.encode(picture(generator, 1)), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    generator.readout = Readout(timestep=1, image=0.0, output=None)
    generator.loss(code, code, valid)
    assert [str(told.message) for told in recwarn if "negative" in str(told.message)] == []
    generator.readout = Readout()
    with pytest.warns(UserWarning, match="begins at the negative picture with x = 1 o; take the readout flow_clean"):
        generator.loss(code, code, valid)

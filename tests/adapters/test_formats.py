import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from ilora.adapters import file, formats, lora
from ilora.config import AdapterConfig
from ilora.generators.latent_diffusion import TARGETS
from tests import tiny
from tests.adapters.test_file import ABOUT
from tests.adapters.test_lora import noise, output, perturb

CASES = [("lora", "attention"), ("dora", "attention+conv"), ("rslora", "attention+conv")]


def adapt(unet: UNet2DConditionModel, method: str, targets: str, run: Path) -> Tensor:
    """Attach an adapter, move it, store it in a run folder; the adapted output."""
    config = AdapterConfig(method=method, rank=3, alpha=4.5, targets=targets)
    lora.attach(unet, config, TARGETS[targets])
    perturb(unet)
    file.write(run / file.FILE, lora.state(unet), ABOUT.replace(adapter=config.write()))
    return output(unet)


def stock(folder: Path) -> StableDiffusionPipeline:
    """The pipeline as anybody loads it."""
    return StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)


def denoiser(folder: Path) -> UNet2DConditionModel:
    """Its denoiser alone."""
    return UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True).eval().requires_grad_(False)


KOHYA = [("kohya", method, targets) for method, targets in CASES if method != "dora"]


@pytest.mark.parametrize(
    ("to", "method", "targets"),
    [
        *(("diffusers", method, targets) for method, targets in CASES),
        *KOHYA,
        ("kohya", "lora", "all"),
    ],
)
def test_stock_diffusers_paints_the_same(
    unet: UNet2DConditionModel, folder: Path, tmp_path: Path, to: str, method: str, targets: str
) -> None:
    base, expected = output(unet), adapt(unet, method, targets, tmp_path / "run")
    path = formats.export(tmp_path / "run", to, tmp_path / "out")
    pipeline = stock(folder)
    pipeline.load_lora_weights(tmp_path / "out", weight_name=path.name)
    assert_close(output(pipeline.unet), expected, rtol=1e-4, atol=1e-5)
    assert (expected - base).abs().max() > 1e-2
    pipeline.unload_lora_weights()
    assert_close(output(pipeline.unet), base)


@pytest.mark.parametrize("to", ["diffusers", "kohya"])
def test_layers_of_several_ranks_are_those_of_one(
    unet: UNet2DConditionModel, folder: Path, tmp_path: Path, to: str
) -> None:
    """Ranks 0 to 3, as EVA allots them, at the scale alpha / rank that all share."""
    config = AdapterConfig(method="eva", rank=2, alpha=3.0, targets="attention")
    chosen = lora.adaptable(unet, TARGETS["attention"])
    start = {name: noise(place % 4, *module.weight.shape[1:]) for place, (name, module) in enumerate(chosen.items())}
    base = output(unet)
    lora.attach(unet, config, TARGETS["attention"], start=start)
    assert torch.equal(output(unet), base)
    assert {name: len(down) for name, down in lora.downs(lora.state(unet)).items()} == {
        name: len(down) for name, down in start.items() if len(down)
    }
    perturb(unet)
    expected = output(unet)
    file.write(tmp_path / "run" / file.FILE, lora.state(unet), ABOUT.replace(adapter=config.write()))
    lora.merge(unet)
    assert_close(output(unet), expected, rtol=1e-3, atol=1e-4)
    path = formats.export(tmp_path / "run", to, tmp_path / "out")
    pipeline = stock(folder)
    pipeline.load_lora_weights(tmp_path / "out", weight_name=path.name)
    assert_close(output(pipeline.unet), expected, rtol=1e-4, atol=1e-5)


def test_the_denoiser_alone_paints_the_same(unet: UNet2DConditionModel, folder: Path, tmp_path: Path) -> None:
    expected = adapt(unet, "dora", "attention+conv", tmp_path / "run")
    formats.export(tmp_path / "run", "diffusers", tmp_path / "out")
    other = denoiser(folder)
    other.load_lora_adapter(load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors"), prefix="unet")
    assert_close(output(other), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "targets"), CASES)
def test_peft_paints_the_same(
    unet: UNet2DConditionModel, folder: Path, tmp_path: Path, method: str, targets: str
) -> None:
    expected = adapt(unet, method, targets, tmp_path / "run")
    formats.export(tmp_path / "run", "peft", tmp_path / "out")
    other = PeftModel.from_pretrained(denoiser(folder), tmp_path / "out").eval()
    assert_close(output(other.base_model.model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("to", "method", "targets"), [("diffusers", *CASES[1]), ("peft", *CASES[1]), ("peft", *CASES[2]), *KOHYA]
)
def test_what_is_exported_is_read(
    unet: UNet2DConditionModel, folder: Path, tmp_path: Path, to: str, method: str, targets: str
) -> None:
    expected = adapt(unet, method, targets, tmp_path / "run")
    path = formats.export(tmp_path / "run", to, tmp_path / "out")
    other = denoiser(folder)
    weights, config = formats.read(path, other)
    assert (config.rank, config.alpha) == (3, None)
    lora.attach(other, config, config.targets)
    lora.load_state(other, weights)
    assert_close(output(other), expected, rtol=1e-4, atol=1e-5)


def read_back(unet: UNet2DConditionModel, path: Path) -> tuple[Tensor, AdapterConfig]:
    """Output of a bare denoiser with the adapter of a file."""
    weights, config = formats.read(path, unet)
    lora.attach(unet, config, config.targets)
    lora.load_state(unet, weights)
    return output(unet), config


@pytest.mark.parametrize("method", ["lora", "dora", "rslora"])
def test_adapters_that_diffusers_wrote(unet: UNet2DConditionModel, folder: Path, tmp_path: Path, method: str) -> None:
    """Trained and saved in the way of diffusers' own scripts, alpha other than rank."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = stock(folder)
    pipeline.unet.add_adapter(
        LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_out.0", "conv1"], **lora.LOW_RANK[method])
    )
    with torch.no_grad():
        for number, weight in enumerate(x for x in pipeline.unet.parameters() if x.requires_grad):
            weight += 0.05 * noise(*weight.shape, seed=number)
    expected = output(pipeline.unet)
    pipeline.unet.save_lora_adapter(tmp_path / "denoiser")
    found, config = read_back(unet, tmp_path / "denoiser")
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (config.method, config.rank) == ("dora" if method == "dora" else "lora", 4)
    lora.detach(unet)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    settings = pipeline.unet.peft_config["default"].to_dict()
    pipeline.save_lora_weights(tmp_path / "pipeline", unet_lora_layers=state, unet_lora_adapter_metadata=settings)
    assert_close(read_back(unet, tmp_path / "pipeline")[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "rslora"])
def test_adapters_that_peft_wrote(unet: UNet2DConditionModel, folder: Path, tmp_path: Path, method: str) -> None:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=["to_q", "to_v", "conv2"],
        rank_pattern={"mid_block.*to_q": 2},
        alpha_pattern={"mid_block.*to_q": 5},
        **lora.LOW_RANK[method],
    )
    model = get_peft_model(denoiser(folder), settings)
    with torch.no_grad():
        for number, weight in enumerate(x for x in model.parameters() if x.requires_grad):
            weight += 0.05 * noise(*weight.shape, seed=number)
    expected = output(model.base_model.model)
    model.save_pretrained(tmp_path)
    assert_close(read_back(unet, tmp_path)[0], expected, rtol=1e-4, atol=1e-5)


def projections(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Weights of all attention projections by name."""
    return {
        name.removesuffix(".weight"): weight
        for name, weight in unet.state_dict().items()
        if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))
    }


def drawn(unet: UNet2DConditionModel, rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B for each attention projection, and the network moved by B A."""
    made = {}
    for number, (name, weight) in enumerate(projections(unet).items()):
        down = noise(rank, weight.shape[1], seed=2 * number) * 0.1
        up = noise(weight.shape[0], rank, seed=2 * number + 1) * 0.1
        made[name] = down, up
    return made


def moved(folder: Path, change: Callable[[str, Tensor, Tensor], Tensor], parts: dict) -> Tensor:
    """Output of the plain network with ``change(name, A, B)`` added to its weights."""
    plain = denoiser(folder)
    state = plain.state_dict()
    for name, (down, up) in parts.items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + change(name, down, up)
    plain.load_state_dict(state)
    return output(plain)


@pytest.mark.parametrize("form", ["original.bin", "original.safetensors", "old diffusers"])
def test_the_original_files(unet: UNet2DConditionModel, folder: Path, tmp_path: Path, form: str) -> None:
    """Keys as field notes and generators.md, section 1.3, give them; scale 1."""
    parts = drawn(unet, rank=8)
    named = OrderedDict()
    for name, (down, up) in parts.items():
        attention, projection = name.replace(".to_out.0", ".to_out").rsplit(".", 1)
        stem = f"{attention}.processor.{projection}_lora" if form != "old diffusers" else f"unet.{name}.lora"
        named[f"{stem}.down.weight"], named[f"{stem}.up.weight"] = down, up
    path = tmp_path / ("pytorch_model.bin" if form == "original.bin" else "pytorch_lora_weights.safetensors")
    torch.save(named, path) if path.suffix == ".bin" else save_file(named, path)
    expected = moved(folder, lambda _, down, up: up @ down, parts)
    for place in (path, tmp_path):
        found, config = read_back(unet, place)
        assert (config.method, config.rank) == ("lora", 8)
        assert_close(found, expected, rtol=1e-4, atol=1e-5)
        lora.detach(unet)


def test_kohya_with_a_rank_and_scale_for_each_layer(unet: UNet2DConditionModel, folder: Path, tmp_path: Path) -> None:
    parts = {name: (down[: 1 + number % 4], up[:, : 1 + number % 4])
             for number, (name, (down, up)) in enumerate(drawn(unet, rank=4).items())}  # fmt: skip
    alpha = {name: 0.5 + number % 3 for number, name in enumerate(parts)}
    named = {}
    for name, (down, up) in parts.items():
        stem = f"lora_unet_{name.replace('.', '_')}"
        named |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up.contiguous()}
        named[f"{stem}.alpha"] = torch.tensor(alpha[name])
    save_file(named, tmp_path / "a.safetensors")
    expected = moved(folder, lambda name, down, up: alpha[name] / len(down) * up @ down, parts)
    found, config = read_back(unet, tmp_path / "a.safetensors")
    assert config.rank == 4
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_magnitudes_in_kohyas_form(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    """``dora_scale`` of LyCORIS on outputs: one value a row, with trailing ones."""
    config = AdapterConfig(method="dora", rank=2)
    lora.attach(unet, config, TARGETS["attention+conv"])
    perturb(unet)
    expected, named = output(unet), {}
    for key, tensor in lora.state(unet).items():
        name, _, part = key.partition(".lora_")
        ending = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}.get(part, "dora_scale")
        shaped = tensor if ending != "dora_scale" else tensor.flatten()[(..., *(None for _ in tensor.shape[1:] or "x"))]
        named[f"lora_unet_{name.replace('.', '_')}.{ending}"] = shaped
    save_file(named, tmp_path / "a.safetensors")
    lora.detach(unet)
    assert_close(read_back(unet, tmp_path / "a.safetensors")[0], expected, rtol=1e-4, atol=1e-5)


def test_kohya_in_the_original_block_numbering(tmp_path: Path) -> None:
    """Stable Diffusion XL adapters name their layers by the original code; convolutions come along."""
    unet = tiny.unet("xl").requires_grad_(False)
    layers = [name for name, module in unet.named_modules() if isinstance(module, formats.ADAPTABLE)]
    named = {}
    for number, name in enumerate(layers):
        shape = unet.get_submodule(name).weight.shape
        stem = f"lora_unet_{tiny.unet_name(f'{name}.weight').removesuffix('.weight').replace('.', '_')}"
        named[f"{stem}.lora_down.weight"] = noise(2, *shape[1:], seed=number)
        named[f"{stem}.lora_up.weight"] = noise(shape[0], 2, *(1 for _ in shape[2:]), seed=number)
    ends = ("time_embed", "label_emb", "input_blocks_0_0", "out_2")  # not adapted by any tool, outside the blocks
    named = {key: tensor for key, tensor in named.items() if not key.startswith(tuple(f"lora_unet_{x}" for x in ends))}
    save_file(named, tmp_path / "a.safetensors")
    weights, _ = formats.read(tmp_path / "a.safetensors", unet)
    for number, name in enumerate(layers):
        if f"{name}.lora_A.weight" in weights:
            assert torch.equal(
                weights[f"{name}.lora_A.weight"], noise(*weights[f"{name}.lora_A.weight"].shape, seed=number)
            )
    assert len(weights) == len(named)
    assert "down_blocks.0.downsamplers.0.conv.lora_A.weight" in weights
    assert "up_blocks.0.upsamplers.0.conv.lora_B.weight" in weights
    assert "mid_block.resnets.1.conv2.lora_A.weight" in weights


def test_an_xl_adapter_in_stock_diffusers(tmp_path: Path) -> None:
    made = tiny.pipeline("xl", tmp_path / "sd")
    unet = made.unet.requires_grad_(False)
    lora.attach(unet, AdapterConfig(rank=2), TARGETS["attention"])
    perturb(unet)
    file.write(tmp_path / file.FILE, lora.state(unet), ABOUT.replace(adapter=AdapterConfig(rank=2).write()))
    given = noise(1, 4, 8, 8), 999, noise(1, 7, 128, seed=1)
    added = {"text_embeds": noise(1, 48), "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]])}
    with torch.no_grad():
        expected = unet(*given, added_cond_kwargs=added).sample
        for to in ("diffusers", "kohya"):
            path = formats.export(tmp_path, to, tmp_path / to)
            other = StableDiffusionXLPipeline.from_pretrained(tmp_path / "sd", local_files_only=True)
            other.load_lora_weights(path.parent, weight_name=path.name)
            assert_close(other.unet(*given, added_cond_kwargs=added).sample, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    adapt(unet, "lora", "attention", tmp_path)
    with pytest.raises(ValueError, match=r"one of diffusers, peft, kohya, got 'comfy'"):
        formats.export(tmp_path, "comfy", tmp_path / "out")
    file.write(tmp_path / file.FILE, {"a": torch.ones(1)}, ABOUT)
    with pytest.raises(ValueError, match=r"kohya has no agreed form of DoRA.*use diffusers or peft"):
        formats.export(tmp_path, "kohya", tmp_path / "out")
    file.write(tmp_path / file.FILE, {"a": torch.ones(1)}, ABOUT.replace(adapter=AdapterConfig(method="full").write()))
    with pytest.raises(ValueError, match=r"kohya holds low-rank changes, got an adapter that moves all weights"):
        formats.export(tmp_path, "kohya", tmp_path / "out")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"unet.mid_block.attn.lora_A.weight": (2, 3)}, r"adapts 'unet\.mid_block\.attn\.lora_A\.weight', .* no layer"),
        ({"lora_te_text_model_x.lora_down.weight": (2, 3)}, r"only LoRA and DoRA of the denoiser's layers"),
        ({"lora_unet_mid_block_resnets_0_conv1.hada_w1_a": (2, 3)}, r"only LoRA and DoRA"),
        ({"lora_unet_mid_block_resnets_0_conv1.lora_mid.weight": (2, 2, 3, 3)}, r"only LoRA and DoRA"),
        ({"conv_in.lora_A.weight": (2, 4, 3, 3)}, r"hold A and B of each layer, got one of them for \['conv_in'\]"),
        ({}, r"hold A and B of each layer, got one of them for \[\] of 0"),
        (
            {"conv_in.lora_A.weight": (2, 5, 3, 3), "conv_in.lora_B.weight": (32, 2, 1, 1)},
            r"adapter of conv_in must have shape \(2, 4, 3, 3\) here, got \(2, 5, 3, 3\)",
        ),
        (
            {
                "lora_unet_conv_in.lora_down.weight": (2, 4, 3, 3),
                "lora_unet_conv_in.lora_up.weight": (32, 2, 1, 1),
                "lora_unet_conv_in.dora_scale": (1, 4, 1, 1),
            },
            r"dora_scale must hold one magnitude an output, got \(1, 4, 1, 1\)",
        ),
    ],
)
def test_what_cannot_be_read(unet: UNet2DConditionModel, tmp_path: Path, tensors: dict, message: str) -> None:
    path = tmp_path / "a.safetensors"
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, path)
    with pytest.raises(ValueError, match=message):
        formats.read(path, unet)


def test_nothing_there(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no adapter in .*; expected one of adapter_model\.safetensors"):
        formats.read(tmp_path, unet)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.bin"):
        formats.read(tmp_path / "absent.bin", unet)


def test_headers_travel_with_exports(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    adapt(unet, "lora", "attention", tmp_path / "run")
    for to in formats.FORMATS:
        path = formats.export(tmp_path / "run", to, tmp_path / to)
        assert file.read(path)[1].intrinsic == "normal"
    settings = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (3, 3)

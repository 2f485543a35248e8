import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

from ilora.generators import clip_vocabulary, load
from ilora.generators.original import _network, _network_config, _unet_names
from tests import tiny


def outputs(generator: object) -> list[torch.Tensor]:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    code = generator.encode(image)
    painted = []
    for prompt in ("surface normal", ""):
        generator.ask(prompt)
        painted.append(generator.forward(code))
    return [code, *painted]


@pytest.mark.filterwarnings("ignore:.*does not say what it predicts")
def test_a_single_file_is_the_folder(checkpoint: tuple[str, object, Path], tmp_path: Path) -> None:
    family, stock, folder = checkpoint
    path = tiny.write_original(stock, tmp_path / "sd.safetensors")
    ours, theirs = load(str(path)), load(str(folder))
    assert all(torch.equal(a, b) for a, b in zip(outputs(ours), outputs(theirs), strict=True))
    assert ours.resolution == {"1": 512, "2": 768, "xl": 1024}[family]
    ours.resolution = 16
    images, expected = (generator.sample([3], "a room", steps=2)[0] for generator in (ours, theirs))
    assert torch.equal(images, expected)  # the scheduler is the same too


@pytest.mark.filterwarnings("ignore:.*does not say what it predicts")
def test_the_independent_conversion_agrees(checkpoint: tuple[str, object, Path], tmp_path: Path) -> None:
    """diffusers' own conversion functions, given the architecture, against ours, which finds it."""
    _, stock, _ = checkpoint
    path = tiny.write_original(stock, tmp_path / "sd.safetensors")
    generator = load(str(path))
    unet = convert_ldm_unet_checkpoint(load_file(path), stock.unet.config)
    vae = convert_ldm_vae_checkpoint(load_file(path), stock.vae.config)
    for theirs, ours in ((unet, generator.network.state_dict()), (vae, generator.codec.state_dict())):
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_the_real_architectures_are_found() -> None:
    """Published configurations of SD 1.5, 2.1 and XL, from the names and shapes of their tensors alone."""
    wide = (320, 640, 1280, 1280)
    cross, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    linear = {"use_linear_projection": True}
    published = {
        "1": {
            "block_out_channels": wide,
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
            "use_linear_projection": False,
            "down_block_types": (cross, cross, cross, plain),
        },
        "2": linear
        | {
            "block_out_channels": wide,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "down_block_types": (cross, cross, cross, plain),
        },
        "xl": linear
        | {
            "block_out_channels": wide[:3],
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "down_block_types": (plain, cross, cross),
            "transformer_layers_per_block": (1, 2, 10),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    }
    for family, config in published.items():
        up = tuple(kind.replace("Down", "Up") for kind in reversed(config["down_block_types"]))
        with torch.device("meta"):
            real = tiny.UNet2DConditionModel(layers_per_block=2, up_block_types=up, **config)
        named = real.state_dict()
        found = _network_config(named, [2] * len(config["block_out_channels"]), family)
        assert found["up_block_types"] == up
        with torch.device("meta"):
            rebuilt = tiny.UNet2DConditionModel(**found).state_dict()
        assert {name: x.shape for name, x in rebuilt.items()} == {name: x.shape for name, x in named.items()}
        assert {key: found[key] for key in config if key != "transformer_layers_per_block"} == {
            key: value for key, value in config.items() if key != "transformer_layers_per_block"
        }


def test_block_names_of_the_real_depth() -> None:
    """Names of Stable Diffusion 1.5 that its users know: twelve input and twelve output blocks."""
    inputs = [
        f"input_blocks.{block}.0.{'op' if block in (3, 6, 9) else 'in_layers.0'}.weight" for block in range(1, 12)
    ]
    names, depth = _unet_names(dict.fromkeys(["input_blocks.0.0.weight", *inputs], torch.zeros(1)))
    assert depth == [2, 2, 2, 2]
    known = {
        "input_blocks.1.1": "down_blocks.0.attentions.0",
        "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks.8.1": "down_blocks.2.attentions.1",
        "input_blocks.11.0": "down_blocks.3.resnets.1",
        "output_blocks.2.1.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.5.2.conv": "up_blocks.1.upsamplers.0.conv",
        "output_blocks.11.1": "up_blocks.3.attentions.2",
    }
    assert {name: names[name] for name in known} == known


@pytest.mark.parametrize("family", ["1", "2", "xl"])
def test_the_real_depth_agrees_with_the_independent_conversion(family: str) -> None:
    """All levels and blocks of the released models at a tenth of their width, renamed and read by diffusers."""
    wide = (32,) * (3 if family == "xl" else 4)
    kinds = ["CrossAttnDownBlock2D"] * len(wide)
    kinds[0 if family == "xl" else -1] = "DownBlock2D"
    config = {
        "block_out_channels": wide,
        "layers_per_block": 2,
        "down_block_types": tuple(kinds),
        "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
        "cross_attention_dim": 16,
        "use_linear_projection": family != "1",
        "transformer_layers_per_block": (1, 2, 3) if family == "xl" else 1,
    }
    extra = {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 40} if family == "xl" else {}
    with torch.device("meta"):
        shapes = tiny.UNet2DConditionModel(**config, **extra, addition_time_embed_dim=4).state_dict()
    state = {name: torch.tensor(float(n)).expand(x.shape) for n, (name, x) in enumerate(shapes.items())}
    downs = range(3, 3 * len(wide), 3)
    blocks = ["input_blocks.0.0", *(f"input_blocks.{block}.0" for block in range(1, 3 * len(wide)))]
    listed = {f"{name}.op.weight" if int(name.split(".")[1]) in downs else f"{name}.weight" for name in blocks}
    names, _ = _unet_names(dict.fromkeys(listed, torch.zeros(1)))
    layers = {layer.rpartition(".")[0] for layer in state}
    back: dict[str, str] = {}
    for theirs, ours in names.items():  # an upsampler is second in a block without attention, third in others
        attended = f"{ours.partition('.upsamplers')[0]}.attentions.2.norm" in layers
        if not theirs.endswith(".conv") or theirs.split(".")[2] == ("2" if attended else "1"):
            back[ours] = theirs
    original = {}
    for name, tensor in state.items():
        ours = max((prefix for prefix in back if name.startswith(f"{prefix}.")), key=len)
        first, *rest = name.removeprefix(f"{ours}.").split(".")
        first = tiny.RESNET.get(first, first) if ".resnets." in ours else first
        original[".".join(["model.diffusion_model", back[ours], first, *rest])] = tensor
    theirs = convert_ldm_unet_checkpoint(original, {**config, **extra})
    assert theirs.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in theirs.items())
    bare = {name.removeprefix("model.diffusion_model."): tensor for name, tensor in original.items()}
    found = _network(bare, family, torch.float32).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in state.items())


class Hostile:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_hostile_pickle_does_not_run(tmp_path: Path) -> None:
    stock = tiny.pipeline("1", tmp_path / "sd")
    path, trace = tmp_path / "sd.ckpt", tmp_path / "it ran"
    torch.save({"state_dict": tiny.original_tensors(stock), "callbacks": Hostile(trace)}, path)
    with pytest.raises(ValueError, match=r"could not be read as tensors alone, and nothing in it was run"):
        load(str(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists()  # it would have


def test_what_velocity_is_said_by(tmp_path: Path) -> None:
    stock = tiny.pipeline("2", tmp_path / "sd")
    content = tiny.original_tensors(stock)
    path = tmp_path / "said.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        save_file(content, path, {"modelspec.prediction_type": "epsilon"})
        assert load(str(path)).scheduler.config.prediction_type == "epsilon"
        torch.save({"state_dict": content, "global_step": 875000}, tmp_path / "base.ckpt")
        assert (load(str(tmp_path / "base.ckpt")).resolution) == 512
        torch.save({"state_dict": content, "global_step": 140000}, tmp_path / "v.ckpt")
        assert load(str(tmp_path / "v.ckpt")).scheduler.config.prediction_type == "v_prediction"
    save_file(content, path)
    with pytest.warns(UserWarning, match=r"said\.safetensors does not say what it predicts; taken as velocity"):
        assert load(str(path)).scheduler.config.prediction_type == "v_prediction"
    (tmp_path / "scheduler").mkdir()
    stock.scheduler.register_to_config(prediction_type="sample")
    stock.scheduler.save_pretrained(tmp_path / "scheduler")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a folder beside the file has the last word
        assert load(str(path)).scheduler.config.prediction_type == "sample"


def test_a_scheduler_beside_the_file_counts(tmp_path: Path) -> None:
    path = tiny.write_original(tiny.pipeline("1", tmp_path / "folder"), tmp_path / "sd.safetensors")
    alone = load(str(path))
    settings = tmp_path / "scheduler" / "scheduler_config.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps(dict(alone.scheduler.config) | {"_class_name": "DDIMScheduler"}))
    beside = load(str(path))
    assert type(beside.scheduler).__name__ == "DDIMScheduler" and beside.fingerprint != alone.fingerprint
    settings.write_text('{"_class_name": "NoScheduler"}')
    with pytest.raises(ValueError, match=r"scheduler of .* must be a model, scheduler .*, got 'NoScheduler'"):
        load(str(path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.ones(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(
        ValueError, match=r"must hold model\.diffusion_model.*got 1 tensors such as \['layer\.weight'\]"
    ):
        load(str(tmp_path / "lora.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ValueError, match=r"cut\.safetensors is not a whole safetensors file"):
        load(str(tmp_path / "cut.safetensors"))
    (tmp_path / "cut.ckpt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"cut\.ckpt could not be read"):
        load(str(tmp_path / "cut.ckpt"))


def test_clips_own_vocabulary() -> None:
    """Token numbers that the documentation of CLIP and of its text encoders shows."""
    numbers, merges = clip_vocabulary.vocabulary()
    assert (len(numbers), len(merges)) == (49408, 48894)
    tokenizer = clip_vocabulary.tokenizer(clip_vocabulary.END)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = tokenizer("", padding="max_length", max_length=77).input_ids
    assert padded == [49406, *[49407] * 76]
    other = clip_vocabulary.tokenizer("!")("", padding="max_length", max_length=4).input_ids
    assert other == [49406, 49407, 0, 0]


def test_without_a_tokenizer_beside_it_the_vocabulary_must_fit(tmp_path: Path) -> None:
    stock = tiny.pipeline("1", tmp_path / "sd")
    save_file(tiny.original_tensors(stock), tmp_path / "sd.safetensors")
    with pytest.raises(ValueError, match=r"token 49407 for 'depth map', but the text encoder knows 36 tokens"):
        load(str(tmp_path / "sd.safetensors")).ask("depth map")


def test_stock_diffusers_reads_the_file_that_we_read(checkpoint: tuple[str, object, Path], tmp_path: Path) -> None:
    """The test's own files are what other programs read: diffusers loads them, given the configuration."""
    family, stock, folder = checkpoint
    path = tiny.write_original(stock, tmp_path / "sd.safetensors")
    kind = StableDiffusionXLPipeline if family == "xl" else StableDiffusionPipeline
    config = json.loads((folder / "model_index.json").read_text())
    assert config["_class_name"] == kind.__name__
    other = kind.from_single_file(
        str(path), config=str(folder), local_files_only=True, text_encoder=stock.text_encoder, tokenizer=stock.tokenizer
    )
    for part in ("unet", "vae"):
        theirs, ours = (getattr(made, part).state_dict() for made in (other, stock))
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)

import json
import shutil
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.testing import assert_close

from ilora import generators
from ilora.generators import checkpoints, load
from tests import tiny


def output(generator: object) -> torch.Tensor:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    generator.ask("surface normal")
    return generator.forward(generator.encode(image))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(hub: Path, name: str, folder: Path) -> None:
    """A checkpoint where the hub's own client would have put it."""
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")


def test_variants_and_pickles_of_tensors_load(tmp_path: Path) -> None:
    stock = tiny.pipeline("1", tmp_path / "plain")
    expected = output(load(str(tmp_path / "plain")))
    stock.save_pretrained(tmp_path / "bin", safe_serialization=False)
    shutil.rmtree(tmp_path / "bin" / "text_encoder")
    shutil.copytree(tmp_path / "plain" / "text_encoder", tmp_path / "bin" / "text_encoder")
    assert not list(tmp_path.glob("bin/unet/*.safetensors"))
    assert torch.equal(output(load(str(tmp_path / "bin"))), expected)
    stock.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert_close(output(load(str(tmp_path / "half"))), expected, rtol=0, atol=0.02)


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    tiny.pipeline("1", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    tiny.pipeline("1", tmp_path / "c", seed=1)
    first, copy, other = (load(str(tmp_path / name)).fingerprint for name in "abc")
    assert first == copy != other
    weights = tmp_path / "b" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load(str(tmp_path / "b")).fingerprint != first


def test_the_fingerprint_is_of_the_settings_too(tmp_path: Path) -> None:
    """Other codes under the same fingerprint would be taken from the cache."""
    tiny.pipeline("1", tmp_path)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    first = load(str(tmp_path))
    before, code = first.fingerprint, first.encode(image)
    settings = tmp_path / "vae" / "config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"scaling_factor": 0.5}))
    scaled = load(str(tmp_path))
    assert scaled.fingerprint != before and (scaled.encode(image) - code).abs().max() > 0.01
    settings = tmp_path / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prediction_type": "v_prediction"}))
    assert load(str(tmp_path)).fingerprint != scaled.fingerprint


def test_programs_and_unknown_classes_are_refused(tmp_path: Path) -> None:
    tiny.pipeline("1", tmp_path)
    settings = tmp_path / "scheduler" / "scheduler_config.json"
    kept = settings.read_text()
    for name in ("NoScheduler", "StableDiffusionPipeline", "logging"):
        settings.write_text(json.dumps(json.loads(kept) | {"_class_name": name}))
        with pytest.raises(ValueError, match=f"scheduler of .* must be a model, scheduler .* of diffusers .*'{name}'"):
            load(str(tmp_path))
    settings.write_text(kept)
    (tmp_path / "unet" / "unet.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match=r"expected weights and settings alone in .*, got the program .*unet\.py"):
        load(str(tmp_path))


def test_classes_of_published_checkpoints_are_known() -> None:
    """One of each kind; FLUX.2's processor wants a library that need not be there."""
    for name in ("T5EncoderModel", "T5TokenizerFast", "Qwen2VLProcessor", "CLIPImageProcessor", "PixtralProcessor"):
        assert checkpoints.stock_class("transformers", name, "a part").__name__.startswith(name.removesuffix("Fast"))
    for name in ("AutoencoderKLFlux2", "FlowMatchEulerDiscreteScheduler"):
        assert checkpoints.stock_class("diffusers", name, "a part").__name__ == name


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json; expected a folder with"):
        load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"'no such thing': no embedded one, no path, no hub id"):
        load("no such thing")
    tiny.pipeline("1", tmp_path / "sd")
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"unet holds no weights"):
        load(str(tmp_path / "sd"))


def test_unets_of_other_kinds_are_refused(tmp_path: Path) -> None:
    stock = tiny.pipeline("1", tmp_path / "sd")
    stock.unet.register_to_config(in_channels=9)
    stock.unet.conv_in = torch.nn.Conv2d(9, 32, 3, padding=1)
    stock.unet.save_pretrained(tmp_path / "sd" / "unet")
    with pytest.raises(ValueError, match=r"4 channels to as many, got 9 to 4; .* inpainting"):
        load(str(tmp_path / "sd"))
    config = tmp_path / "sd" / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "VQModel"}))
    with pytest.raises(ValueError, match=r"vae of .* must be one of AutoencoderKL, AutoencoderTiny, got VQModel"):
        load(str(tmp_path / "sd"))


def test_a_hub_id_comes_from_the_cache(tmp_path: Path, offline: Path) -> None:
    tiny.pipeline("1", tmp_path / "sd")
    put(offline, "someone/something", tmp_path / "sd")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        generator = load("someone/something")
    assert generator.name == "someone/something"
    assert torch.equal(output(generator), output(load(str(tmp_path / "sd"))))


@pytest.mark.parametrize("name", ["runwayml/stable-diffusion-v1-5", "stabilityai/stable-diffusion-2-1"])
def test_removed_models_come_from_their_mirror_and_say_so(tmp_path: Path, offline: Path, name: str) -> None:
    tiny.pipeline("1", tmp_path / "sd")
    put(offline, checkpoints.MIRRORS[name], tmp_path / "sd")
    with pytest.warns(
        UserWarning, match=f"{name} was removed from the hub; using its mirror {checkpoints.MIRRORS[name]}"
    ):
        generator = load(name)
    assert generator.name == name
    put(offline, name, tmp_path / "sd")  # an old cache still has the original: no need for the mirror
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load(name)


def test_offline_says_what_would_do(offline: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"not in the local hub cache .*offline, pass the path of a folder with"
    ):
        load("runwayml/stable-diffusion-v1-5")


def test_a_cache_without_weights_is_not_enough(tmp_path: Path, offline: Path) -> None:
    tiny.pipeline("1", tmp_path / "sd")
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    put(offline, "someone/something", tmp_path / "sd")
    with pytest.raises(FileNotFoundError, match=r"someone/something is not in the local hub cache"):
        load("someone/something")


def test_an_embedded_name_is_its_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "WEIGHTS", tmp_path)
    assert generators.embedded() == []
    shutil.copytree(folder, tmp_path / "mini")
    assert generators.embedded() == ["mini"]
    generator = load("mini")
    assert generator.name == "mini"
    assert generator.fingerprint == load(str(folder)).fingerprint


def test_stock_diffusers_reads_the_folder_that_we_read(tmp_path: Path) -> None:
    tiny.pipeline("2", tmp_path)
    stock = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    ours = load(str(tmp_path)).network.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in stock.unet.state_dict().items())

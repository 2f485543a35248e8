"""Both networks of a generator of tokens, adapted: what they paint, that they learn, and that nothing else moves."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import VQModel
from torch.testing import assert_close

from ilora import fit as fitting
from ilora.adapters import file, lora
from ilora.config import AdapterConfig, FitConfig
from ilora.generators import FAMILIES, autoregressive, codebooks, load
from ilora.generators.base import Generator
from ilora.generators.taming import codec_config
from ilora.predictor import Predictor
from tests import tiny_tokens, world
from tests.generators.adapted import check_alive, check_learns, check_life, disturb

MODES = ("decoder", "readout")
PAPER = {  # f16-1024 of taming-transformers
    "embed_dim": 256,
    "n_embed": 1024,
    "ddconfig": {
        "z_channels": 256,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 1, 2, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [16],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens.write_autoregressive(tmp_path_factory.mktemp("tokens") / "tiny")


@pytest.fixture(params=MODES)
def generator(request: pytest.FixtureRequest, folder: Path) -> Generator:
    return load(f"{folder}@{request.param}")


def picture(batch: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(image[:, :1], dtype=torch.bool)


def test_it_follows_the_protocol(generator: Generator) -> None:
    assert isinstance(generator, Generator)
    assert {"attention", "attention+conv"} <= generator.targets.keys()
    assert not any(weight.requires_grad for weight in generator.network.parameters())


def test_the_name_says_which_network_adapters_change(folder: Path) -> None:
    plain, decoder, readout = (load(f"{folder}{end}") for end in ("", "@decoder", "@readout"))
    assert type(plain.network) is type(decoder.network) is codebooks.Head
    assert type(readout.network).__name__ == "GPT2LMHeadModel"
    assert plain.fingerprint == decoder.fingerprint != readout.fingerprint
    with pytest.raises(ValueError, match="one of decoder, readout, got 'middle'"):
        load(f"{folder}@middle")


def test_only_its_own_files_are_recognised(folder: Path, tmp_path: Path) -> None:
    assert autoregressive.recognises(str(folder)) and autoregressive.recognises(f"{folder}@readout")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    for other in (str(tmp_path), "toy", "rooms-diffusion", "nowhere", "stabilityai/sdxl"):
        assert not autoregressive.recognises(other)
    assert FAMILIES["autoregressive"] == "autoregressive"


def test_tokens_and_decoded_images_are_those_of_diffusers(folder: Path) -> None:
    stock = VQModel.from_pretrained(folder / "vqvae").eval()
    decoder, readout = (load(f"{folder}@{mode}") for mode in MODES)
    image = picture()
    with torch.no_grad():
        latent = stock.encode(image).latents
        index = stock.quantize(latent)[2][2].view(2, 8, 8)
        painted = stock.decode(latent).sample
    code = decoder.encode(image)
    assert torch.equal(code.long(), index) and len(index.unique()) > 4
    assert_close(decoder.forward(code), painted, rtol=0, atol=1e-5)
    assert_close(decoder.decode(decoder.target(image)), painted, rtol=0, atol=1e-5)
    assert_close(readout.decode(readout.target(image)), painted, rtol=0, atol=1e-5)


def test_a_certain_readout_is_the_entry_and_an_uncertain_one_the_mean(folder: Path) -> None:
    codec = load(str(folder)).codec
    entries = codec.embed(torch.arange(tiny_tokens.CODES)[None, None])  # [1, d, 1, k]
    logits = torch.full((1, tiny_tokens.CODES, 1, 2), 0.0)
    logits[0, 5, 0, 0] = 100
    assert_close(codec.expect(logits)[0, :, 0], torch.stack([entries[0, :, 0, 5], entries[0, :, 0].mean(1)], 1))


def test_the_mean_entry_is_not_rounded_under_autocast(folder: Path) -> None:
    codec = load(str(folder)).codec
    logits = torch.randn(2, tiny_tokens.CODES, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = codec.expect(logits)
    with torch.autocast("cpu", torch.bfloat16):
        found = codec.expect(logits)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_the_fingerprint_is_of_the_settings_too(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = load(str(copy)).fingerprint
    assert before == load(str(folder)).fingerprint
    for name in ("model_index.json", "prior/config.json", "vqvae/config.json"):
        kept = (copy / name).read_text()
        (copy / name).write_text(kept + "\n")
        assert load(str(copy)).fingerprint != before, name
        (copy / name).write_text(kept)


def test_an_adapter_lives_learns_and_leaves(generator: Generator) -> None:
    check_life(generator, picture())
    check_learns(generator, picture())


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_every_adapter_is_alive(generator: Generator, method: str) -> None:
    check_alive(generator, picture(1), "all" if method == "lora" else "attention", method=method)


def test_the_native_loss_ignores_what_is_not_valid(generator: Generator) -> None:
    image, valid = picture(), everywhere(picture())
    valid[:, :, :8] = False
    code, plain = generator.encode(image), generator.loss(generator.encode(image), generator.target(image), valid)
    target = generator.target(image)
    target[..., : target.shape[-2] // 2, :] = 3  # another token, another grey
    assert torch.equal(generator.loss(code, target, valid), plain)
    assert not torch.equal(generator.loss(code, target, everywhere(image)), plain)
    assert torch.equal(generator.loss(code, target, torch.zeros_like(valid)), torch.zeros(2))


def test_gradients_reach_every_adapter_through_the_painted_image(generator: Generator) -> None:
    lora.attach(generator.network, AdapterConfig(rank=2), generator.targets["attention"])
    disturb(generator.network)
    generator.forward(generator.encode(picture())).square().mean().backward()
    assert all(weight.grad.abs().max() > 0 for weight in lora.trainable(generator.network))


def test_the_paper_size_has_131072_weights_in_the_decoder_attention() -> None:
    with torch.device("meta"):
        codec = VQModel(**codec_config(PAPER))
    total = sum(weight.numel() for weight in codec.parameters())
    targets = codebooks.TARGETS["attention"]
    head = codebooks.Head(codec)
    layers = [layer for name, layer in head.named_modules() if re.fullmatch(targets, name)]
    assert len(layers) == 4 * 4 and all(layer.weight.shape == (512, 512) for layer in layers)
    counted = lora.attach(head.to_empty(device="cpu"), AdapterConfig(rank=8), targets)
    assert (counted.moving, total) == (131_072, 72_141_699)
    assert f"{100 * counted.moving / total:.2f}" == "0.18"


def test_a_codec_alone_decodes_but_neither_paints_nor_reads(tmp_path: Path) -> None:
    folder = tiny_tokens.write_autoregressive(tmp_path / "codec", prior=False)
    alone = load(str(folder))
    assert alone.forward(alone.encode(picture())).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="a codec alone; encode pictures"):
        alone.sample([0])
    with pytest.raises(ValueError, match="a codec alone; leave out @readout"):
        load(f"{folder}@readout")


def test_sizes_keep_the_aspect_ratio_where_the_network_can(folder: Path) -> None:
    assert load(f"{folder}@decoder").size(30, 60) == (12, 24)
    assert load(f"{folder}@readout").size(30, 60) == (16, 16)
    wide = picture()[..., :12, :]
    decoder = load(f"{folder}@decoder")
    assert decoder.forward(decoder.encode(wide)).shape == wide.shape


@pytest.mark.parametrize("mode", MODES)
def test_fit_saves_what_predict_loads(mode: str, folder: Path, tmp_path: Path) -> None:
    data = world.write(tmp_path / "data", train=2, test=1)
    given = {
        "labels": 2,
        "steps": 4,
        "batch": 2,
        "lr": 1e-2,
        "rank": 2,
        "image_share": 0.5,
        "targets": "attention+conv",
    }
    config = FitConfig(generator=f"{folder}@{mode}", data=str(data), intrinsic="normal", **given)
    run = fitting.fit(config, tmp_path / "run")
    weights, about = file.read(run)
    assert about.generator == f"{folder}@{mode}"
    predictor = Predictor(run)
    image = picture(1)
    painted = predictor.paint(image)["normal"]
    generator = load(about.generator)
    lora.attach(generator.network, about.adapter, generator.targets["attention+conv"])
    lora.load_state(generator.network, weights)
    with torch.no_grad():
        expected = predictor.intrinsic("normal").from_image(generator.forward(generator.encode(image)))
    assert_close(painted, expected, rtol=0, atol=1e-3)
    untouched = predictor.paint(image, adapted=False)["normal"]
    assert (painted - untouched).abs().max() > 1e-3

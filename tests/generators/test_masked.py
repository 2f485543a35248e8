"""aMUSEd beside the stock pipeline, and adapters in its transformer."""

from pathlib import Path

import pytest
import torch
from diffusers import AmusedPipeline
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig
from ilora.generators import autoregressive, load
from tests import tiny_tokens
from tests.generators.adapted import check_alive, check_learns, check_life


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[AmusedPipeline, Path]:
    folder = tmp_path_factory.mktemp("amused")
    return tiny_tokens.write_amused(folder), folder


def picture(batch: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_samples_are_those_of_the_stock_pipeline(made: tuple[AmusedPipeline, Path], guidance: float) -> None:
    stock, folder = made
    assert autoregressive.recognises(str(folder))
    images, codes = load(str(folder)).sample([3, 8], "a red sofa", steps=4, guidance=guidance)
    for seed, image in zip((3, 8), images, strict=True):
        numbers = torch.Generator().manual_seed(seed)
        given = {"num_inference_steps": 4, "guidance_scale": guidance, "generator": numbers, "output_type": "pt"}
        assert_close(image / 2 + 0.5, stock("a red sofa", **given).images[0], rtol=0, atol=1e-4)
    assert len(codes.unique()) > 4


def test_tokens_are_those_of_its_codec_on_pictures_from_0_to_1(made: tuple[AmusedPipeline, Path]) -> None:
    stock, folder = made
    generator, image = load(str(folder)), picture()
    with torch.no_grad():
        latent = stock.vqvae.encode(image / 2 + 0.5).latents
        index = stock.vqvae.quantize(latent)[2][2].view(2, 8, 8)
        painted = stock.vqvae.decode(index, force_not_quantize=True, shape=(2, 8, 8, 4)).sample
    assert torch.equal(generator.encode(image).long(), index)
    assert_close(generator.decode(generator.target(image)), painted * 2 - 1, rtol=0, atol=1e-5)


def test_one_pass_reads_a_picture_of_any_shape_under_the_prompt(made: tuple[AmusedPipeline, Path]) -> None:
    stock, folder = made
    generator = load(str(folder))
    assert generator.size(30, 60) == (12, 24)
    code = generator.encode(picture()[:, :, :12])
    generator.ask("depth map")
    found = generator.prior.read(code.long())
    tokens = stock.tokenizer("depth map", padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        text = stock.text_encoder(tokens.input_ids, output_hidden_states=True)
        expected = stock.transformer(
            code.long(),
            encoder_hidden_states=text.hidden_states[-2].expand(2, -1, -1),
            pooled_text_emb=text.text_embeds.expand(2, -1),
            micro_conds=torch.tensor([[16.0, 12, 0, 0, 6]]).expand(2, -1),
        )
    assert_close(found, expected, rtol=0, atol=1e-4)
    generator.ask("a red sofa")
    assert not torch.equal(generator.prior.read(code.long()), found)


def test_adapters_live_learn_and_leave(made: tuple[AmusedPipeline, Path]) -> None:
    generator = load(str(made[1]))
    check_life(generator, picture())
    check_learns(generator, picture())
    check_alive(generator, picture(1), "all")


def test_its_decoder_has_no_attention_in_the_middle_but_can_be_adapted(made: tuple[AmusedPipeline, Path]) -> None:
    generator = load(f"{made[1]}@decoder")
    lora.attach(generator.network, AdapterConfig(rank=2), generator.targets["attention"])
    names = {name.partition(".lora_")[0] for name in lora.state(generator.network)}
    assert names and all(name.startswith("decoder.up_blocks.0.attentions.") for name in names)

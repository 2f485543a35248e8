import json
import math
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig, Readout
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.generators.latent_diffusion import coefficients
from tests import tiny

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def picture(batch: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_it_follows_the_protocol(checkpoint: tuple[str, object, Path]) -> None:
    assert isinstance(load(str(checkpoint[2])), Generator)


def test_samples_are_those_of_the_stock_pipeline(checkpoint: tuple[str, object, Path]) -> None:
    _, stock, folder = checkpoint
    generator = load(str(folder))
    images, codes = generator.sample([3, 4], "a red sofa", steps=3, guidance=5.0)
    expected = stock(
        "a red sofa",
        num_inference_steps=3,
        guidance_scale=5.0,
        height=16,
        width=16,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        output_type="pt",
    ).images
    assert_close(images / 2 + 0.5, expected, rtol=0, atol=2e-5)
    assert_close(generator.decode(codes).clamp(-1, 1), images, rtol=0, atol=1e-6)


def test_a_batch_does_not_mix_its_seeds(checkpoint: tuple[str, object, Path]) -> None:
    generator = load(str(checkpoint[2]))
    together, _ = generator.sample([3, 4], "a room", steps=2, guidance=1.0)
    alone, _ = generator.sample([4], "a room", steps=2, guidance=1.0)
    assert_close(together[1:], alone, rtol=0, atol=1e-5)


def test_codes_are_scaled_means(checkpoint: tuple[str, object, Path]) -> None:
    _, stock, folder = checkpoint
    generator, image = load(str(folder)), picture()
    with torch.no_grad():
        expected = stock.vae.encode(image).latent_dist.mean * stock.vae.config.scaling_factor
        assert_close(generator.decode(expected), stock.vae.decode(expected / stock.vae.config.scaling_factor).sample)
    assert_close(generator.encode(image), expected)
    assert torch.equal(generator.target(image), generator.encode(image))


def test_forward_is_one_pass_at_the_last_time_step(checkpoint: tuple[str, object, Path]) -> None:
    family, stock, folder = checkpoint
    generator = load(str(folder))
    code = generator.encode(picture())
    generator.ask("surface normal")
    with torch.no_grad():
        if family == "xl":
            states, _, pooled, _ = stock.encode_prompt("surface normal", do_classifier_free_guidance=False)
            times = torch.tensor([[16.0, 16, 0, 0, 16, 16]]).expand(2, -1)
            extra = {"added_cond_kwargs": {"text_embeds": pooled.expand(2, -1), "time_ids": times}}
        else:
            states, _ = stock.encode_prompt("surface normal", "cpu", 1, False)
            extra = {}
        output = stock.unet(code, 999, encoder_hidden_states=states.expand(2, -1, -1), **extra).sample
        assert_close(generator.paint(code), output)
        assert_close(generator.forward(code), generator.decode(output))
        generator.ask("depth map")
        assert (generator.paint(code) - output).abs().max() > 1e-5  # the prompt matters


def test_readout_follows_the_prediction_type() -> None:
    for timestep in (0, 250, 999):
        for kind in ("epsilon", "v_prediction", "sample"):
            scheduler = DDIMScheduler(**SCHEDULE, prediction_type=kind)
            alpha = math.sqrt(scheduler.alphas_cumprod[timestep])
            sigma = math.sqrt(1 - scheduler.alphas_cumprod[timestep])
            clean, noise = 0.3, -1.7
            noisy = alpha * clean + sigma * noise
            output = {"epsilon": noise, "v_prediction": alpha * noise - sigma * clean, "sample": clean}[kind]
            image, weight = coefficients(Readout(timestep=timestep, image=None, output=None), scheduler)
            assert image * noisy + weight * output == pytest.approx(clean, abs=1e-4)


def test_readout_may_be_given_in_part() -> None:
    scheduler = DDIMScheduler(**SCHEDULE, prediction_type="v_prediction")
    assert coefficients(Readout(), scheduler) == (0.0, 1.0)
    image, output = coefficients(Readout(image=0.0, output=None), scheduler)
    assert (image, output) == (0.0, pytest.approx(-1, abs=0.01))


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
def test_readout_at_zero_signal(scheduler: type) -> None:
    zero = {**SCHEDULE, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    velocity = scheduler(**zero, prediction_type="v_prediction")
    image, output = coefficients(Readout(image=None, output=None), velocity)
    assert (image, output) == (pytest.approx(0, abs=1e-3), pytest.approx(-1))  # all of the image is in the output
    noise = scheduler(**zero, prediction_type="epsilon")
    with pytest.raises(ValueError, match=r"timestep 999, where alpha is .*earlier timestep"):
        coefficients(Readout(image=None, output=None), noise)
    with pytest.raises(ValueError, match=r"in 0\.\.999 of .*, got 1000"):
        coefficients(Readout(timestep=1000), noise)


def test_an_adapter_learns(checkpoint: tuple[str, object, Path]) -> None:
    generator = load(str(checkpoint[2]))
    generator.ask("depth map")
    code, target = generator.encode(picture(1)), generator.target(-picture(1))
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    lora.attach(generator.network, AdapterConfig(rank=8), generator.targets["attention"])
    optimiser = torch.optim.AdamW(lora.trainable(generator.network), 2e-2)
    losses = []
    for _ in range(6):
        loss = generator.loss(code, target, valid).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert not [name for name, weight in generator.codec.named_parameters() if weight.grad is not None]


def test_gradients_reach_the_adapter_through_the_decoder_and_checkpointing_keeps_them(folder: Path) -> None:
    grads = []
    for recompute in (False, True):
        generator = load(str(folder))
        if recompute:
            generator.network.enable_gradient_checkpointing()
        lora.attach(generator.network, AdapterConfig(rank=2), generator.targets["attention+conv"])
        generator.forward(generator.encode(picture())).square().mean().backward()
        grads.append([weight.grad for weight in lora.trainable(generator.network)])
    assert sum(grad.abs().sum() for grad in grads[0]) > 0
    assert_close(grads[0], grads[1])


def test_masked_cells_do_not_count(folder: Path) -> None:
    generator = load(str(folder))
    code = generator.encode(picture())
    target = torch.zeros_like(code)
    target[:, :, :, 4:] = 100.0
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[..., 8:] = False  # cells of 2 px: the right half
    left = generator.paint(code)[..., :4].square().mean((1, 2, 3))
    assert_close(generator.loss(code, target, valid), left)


def test_half_types_stay_half_and_the_codec_keeps_its_range(folder: Path) -> None:
    exact = load(str(folder))
    for dtype, codec in ((torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)):
        generator = load(str(folder), dtype=dtype)
        lora.attach(generator.network, AdapterConfig(rank=2), generator.targets["attention"])
        assert next(generator.codec.parameters()).dtype == codec
        seen = []
        generator.network.conv_out.register_forward_hook(lambda _, given, out, seen=seen: seen.append(out.dtype))
        with torch.no_grad():
            image = generator.forward(generator.encode(picture()))
            assert_close(image, exact.forward(exact.encode(picture())), rtol=0, atol=0.2)
        assert seen == [dtype]
        assert image.dtype == torch.float32


def test_autocast_and_channels_last(folder: Path) -> None:
    plain, fast = load(str(folder)), load(str(folder))
    fast.network.to(memory_format=torch.channels_last)
    lora.attach(fast.network, AdapterConfig(rank=2), fast.targets["attention+conv"])
    code, valid = plain.encode(picture()), torch.ones(2, 1, 16, 16, dtype=torch.bool)
    expected = plain.loss(code, -code, valid)
    assert_close(fast.loss(code, -code, valid), expected)
    with torch.autocast("cpu", torch.bfloat16):
        loss = fast.loss(code, -code, valid)
    assert loss.dtype == torch.float32
    assert_close(loss, expected, rtol=0.05, atol=0)
    loss.sum().backward()
    assert {weight.grad.dtype for weight in lora.trainable(fast.network)} == {torch.float32}


@pytest.mark.parametrize("shape", [(480, 640), (1, 1000), (37, 53), (3000, 2000), (512, 512)])
def test_sizes_keep_area_and_aspect(folder: Path, shape: tuple[int, int]) -> None:
    generator = load(str(folder))
    generator.resolution = 128
    height, width = generator.size(*shape)
    assert height % generator.factor == width % generator.factor == 0
    if max(shape) < 10 * min(shape):
        assert height * width == pytest.approx(128**2, rel=0.05)
        assert height / width == pytest.approx(shape[0] / shape[1], rel=0.015)
    assert generator.size(128, 128) == (128, 128)


def test_the_network_may_change_its_type_on_the_way(folder: Path) -> None:
    generator = load(str(folder))
    generator.ask("depth map")
    code = generator.encode(picture())
    before = generator.paint(code)
    generator.network.to(torch.bfloat16)
    rounded = generator.paint(code)
    assert 0 < (rounded - before).abs().max() < 0.2
    exact = load(str(folder)).network.state_dict()
    generator.network.to(torch.float32).load_state_dict(exact)
    assert torch.equal(generator.paint(code), before)  # the conditioning was not left rounded


def test_odd_sizes_go_through(folder: Path) -> None:
    generator = load(str(folder))
    image = torch.zeros(1, 3, 14, 22)  # 7 x 11 cells: no multiple of the U-Net's own stride
    assert generator.forward(generator.encode(image)).shape == image.shape


def test_prompts_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.pipeline("1", tmp_path / "sd")
    generator = load(str(tmp_path / "sd"))
    generator.ask("albedo")
    code = generator.encode(picture())
    expected = generator.paint(code)
    again = load(str(tmp_path / "sd"))
    assert again.fingerprint == generator.fingerprint  # read before the file is gone
    (tmp_path / "sd" / "text_encoder" / "config.json").rename(tmp_path / "hidden")
    again.ask("albedo")  # from the disk cache: the text encoder cannot be loaded any more
    assert torch.equal(again.paint(code), expected)
    with pytest.raises(FileNotFoundError, match=r"text_encoder.config\.json"):
        again.ask("shading")
    monkeypatch.setenv("ILORA_CACHE", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=r"text_encoder.config\.json"):
        load(str(tmp_path / "sd")).ask("albedo")


def test_another_tokenizer_is_another_prompt(tmp_path: Path) -> None:
    tiny.pipeline("1", tmp_path / "sd")
    first = load(str(tmp_path / "sd"))
    first.ask("a sofa")
    tokens = tmp_path / "sd" / "tokenizer" / "tokenizer.json"
    content = json.loads(tokens.read_text())
    content["model"]["vocab"]["a"], content["model"]["vocab"]["s"] = 9, 0
    tokens.write_text(json.dumps(content))
    other = load(str(tmp_path / "sd"))
    other.ask("a sofa")
    code = first.encode(picture())
    assert (first.paint(code) - other.paint(code)).abs().max() > 1e-6


def test_a_prompt_for_each_image(folder: Path) -> None:
    generator = load(str(folder))
    images, _ = generator.sample([3, 4], ["a sofa", "a room"], steps=2)
    alone, _ = generator.sample([4], "a room", steps=2)
    other, _ = generator.sample([4], "a sofa", steps=2)
    assert_close(images[1:], alone, rtol=0, atol=1e-5)
    assert (other - alone).abs().max() > 1e-5
    with pytest.raises(ValueError, match=r"one for each of the 3 seeds, got 2"):
        generator.sample([1, 2, 3], ["a sofa", "a room"])


def test_the_embedded_form_loads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """AutoencoderTiny, velocity, zero terminal signal: the layout of rooms-diffusion."""
    stock = tiny.pipeline("1", tmp_path / "base")
    torch.manual_seed(0)
    codec = AutoencoderTiny(
        latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), scaling_factor=0.7, shift_factor=0.2,
    )  # fmt: skip
    zero = {**SCHEDULE, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    made = StableDiffusionPipeline(
        vae=codec, unet=stock.unet, text_encoder=stock.text_encoder, tokenizer=stock.tokenizer,
        scheduler=DDIMScheduler(**zero, prediction_type="v_prediction"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(tmp_path / "embedded")
    capfd.readouterr()
    generator = load(str(tmp_path / "embedded"), readout=Readout(image=None, output=None))
    generator.ask("")
    assert capfd.readouterr() == ("", "")  # the libraries' remarks and bars are kept away
    assert (generator.factor, generator.resolution) == (2, 16)
    with torch.no_grad():
        raw = codec.encode(picture()).latents
        code = generator.encode(picture())
        assert_close(code, (raw - 0.2) * 0.7)
        assert_close(generator.decode(code), codec.decode(raw).sample)
        states, _ = made.encode_prompt("", "cpu", 1, False)
        velocity = stock.unet(code, 999, encoder_hidden_states=states.expand(2, -1, -1)).sample
        assert_close(generator.paint(code), -velocity)  # alpha = 0, sigma = 1
    images, _ = generator.sample([0], "a room", steps=2, guidance=1.0)
    assert images.isfinite().all()


def test_targets_name_what_they_say(folder: Path) -> None:
    generator = load(str(folder))
    names = dict(generator.network.named_modules())
    layers = {}
    for targets, pattern in generator.targets.items():
        matched = {name for name in names if re.fullmatch(pattern, name)}
        layers[targets] = {name for name in matched if isinstance(names[name], lora.ADAPTABLE)}
    transformers = [name for name in names if name.endswith((".attn1", ".attn2"))]
    assert len(layers["attention"]) == 4 * len(transformers)
    assert layers["attention"] < layers["attention+conv"] < layers["all"]
    assert {"down_blocks.0.downsamplers.0.conv", "up_blocks.0.upsamplers.0.conv"} < layers["attention+conv"]
    assert "mid_block.resnets.0.conv1" in layers["attention+conv"]
    assert layers["ff"] == {name for name in layers["all"] if ".ff.net." in name}
    assert {"conv_in", "conv_out", "time_embedding.linear_1"} < layers["all"]

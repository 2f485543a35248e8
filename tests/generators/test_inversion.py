"""Real pictures as styles: the descent finds them, the encoder is a start, the residual says what is lost."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import ilora
from ilora import codes, intrinsics, validation
from ilora import data as datasets
from ilora.adapters import file, lora
from ilora.config import AdapterConfig
from ilora.generators import load, stylegan, stylegan_files
from ilora.generators.base import LOST
from ilora.generators.inversion import Encoder, EncoderShape, Inversion, distance, rate, refine
from ilora.predictor import Predictor
from tests import tiny_stylegan, world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_stylegan.write_stylegan2(tmp_path / "gan")


def test_distance_by_hand() -> None:
    """A checkerboard of +1 and -1 is 1 away at the full side and nothing at any coarser one."""
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    painted = board.expand(1, 3, 8, 8)
    assert_close(distance(painted, torch.zeros(1, 3, 8, 8)), torch.tensor([1 / 3]))  # 8, 4 and 2 px
    assert_close(distance(painted + 1, painted), torch.tensor([1.0]))


def test_the_rate_rises_stays_and_falls() -> None:
    assert [rate(part) for part in (0.05, 0.5, 0.75)] == pytest.approx([1, 1, 1])
    assert rate(0.0) == pytest.approx(0.01)
    assert rate(0.875) == pytest.approx(0.5)
    assert rate(1.0) == pytest.approx(0)


def test_descent_finds_the_styles_of_a_linear_painter() -> None:
    draws = torch.Generator().manual_seed(0)
    basis = torch.randn(6, 3 * 8 * 8, generator=draws)
    wanted = torch.randn(2, 2, 3, generator=draws)

    def paint(styles: torch.Tensor) -> torch.Tensor:
        return (styles.flatten(1) @ basis).view(-1, 3, 8, 8)

    found = refine(paint, torch.zeros(2, 2, 3), paint(wanted), Inversion(steps=150))
    assert_close(found, wanted, rtol=0, atol=0.05)
    alone = refine(paint, torch.zeros(1, 2, 3), paint(wanted)[1:], Inversion(steps=150))
    assert_close(alone, found[1:], rtol=1e-3, atol=1e-3)


def test_refinement_never_does_harm() -> None:
    def paint(styles: torch.Tensor) -> torch.Tensor:
        return styles.view(-1, 3, 2, 2)

    exact = torch.randn(1, 1, 12)
    assert torch.equal(refine(paint, exact, paint(exact), Inversion(steps=5, lr=10.0)), exact)


def test_a_fresh_encoder_begins_at_the_mean_style() -> None:
    encoder = Encoder(EncoderShape(styles=4, w=16, side=16, width=8))
    assert torch.equal(encoder(torch.rand(2, 3, 40, 24)), torch.zeros(2, 4, 16))


def test_encoding_is_deterministic_better_with_steps_and_blind_to_adapters(folder: Path) -> None:
    generator = load(str(folder))
    image, _ = generator.sample([5, 6])
    generator.inversion = Inversion(steps=0)
    mean = generator.network.mapping.w_avg + generator.encoder(image)
    guess = generator.encode(image)
    assert_close(guess, mean)
    generator.inversion = Inversion(steps=10)
    code = generator.encode(image)
    assert torch.equal(generator.encode(image), code)
    assert (generator.residual(image, code).mean((1, 2, 3)) < generator.residual(image, guess).mean((1, 2, 3))).all()

    lora.attach(generator.network, AdapterConfig(rank=2), generator.targets["affine"])
    with torch.no_grad():
        for weight in lora.trainable(generator.network):
            weight.add_(0.2)
    assert torch.equal(generator.encode(image), code)
    residual = generator.residual(image, code)
    lora.detach(generator.network)
    assert torch.equal(generator.residual(image, code), residual)


def test_pictures_are_refined_a_few_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The styles are those of all at once; a picture larger than the limit goes alone."""
    generator = load(str(folder))
    image, _ = generator.sample([5, 6, 7])
    whole, sizes = generator.encode(image), []
    generator.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    for pixels, most in ((2 * 32**2, 2), (100, 1)):
        sizes.clear()
        monkeypatch.setattr(stylegan, "PIXELS", pixels)
        assert_close(generator.encode(image), whole, rtol=1e-3, atol=1e-3)
        assert max(sizes) == most


def test_the_residual_is_where_the_picture_differs(folder: Path) -> None:
    generator = load(str(folder))
    image, code = generator.sample([5])
    assert torch.equal(generator.residual(image, code), torch.zeros(1, 1, 32, 32))
    other = image.clone()
    other[:, :, :, :8] = -image[:, :, :, :8].sign()
    lost = generator.residual(other, code) >= LOST
    assert lost[..., :7].all() and not lost[..., 10:].any()


def test_without_an_encoder_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    folder = tiny_stylegan.write_stylegan2(tmp_path, encoder=False)
    generator = load(str(folder))
    image, _ = generator.sample([0])
    with pytest.raises(ValueError, match=r"has no encoder of real pictures.*ilora zoo encoder FOLDER"):
        generator.encode(image)
    stylegan_files.write_config(folder, {"inversion": {"encoder": False, "steps": 15}})
    slower = load(str(folder))
    assert slower.fingerprint != generator.fingerprint
    assert slower.residual(image, slower.encode(image)).mean() < (image - slower.forward(
        slower.network.mapping.w_avg.expand(1, 8, 16))).abs().mean()  # fmt: skip


def test_damaged_encoders_are_named(folder: Path) -> None:
    stylegan_files.tensors.write(folder / "encoder.safetensors", {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="must be an encoder that ilora wrote"):
        load(str(folder))


def test_a_photo_to_a_map_with_its_residual(folder: Path, tmp_path: Path) -> None:
    """fit and predict as for every generator; only what the code lost is left out, and reported."""
    data = world.write(tmp_path / "world", train=3, test=2)
    config = ilora.preset(
        "default", generator=str(folder), data=str(data), intrinsic="normal", steps=2, batch=2, rank=2
    )
    run = ilora.fit.fit(config, tmp_path / "run")
    result = ilora.predict.predict(data / "images" / "test1.png", run, tmp_path / "maps", formats=["npy"])
    assert result.failed == {}
    row = json.loads((tmp_path / "maps" / "predictions.jsonl").read_text())
    assert 0 < row["residual"] < 2 and 0 <= row["lost"] <= 1
    story = json.loads((tmp_path / "maps" / "test1.normal.npy.json").read_text())
    assert float(story["residual"]) == pytest.approx(row["residual"], rel=0.01)


def test_a_control_on_random_weights_is_validated_on_codes_of_the_real_network(folder: Path, tmp_path: Path) -> None:
    """The scores of a fit are those of its adapter as ``predict`` paints with it: encoded by the generator's own
    weights, painted by the random ones."""
    data = str(world.write(tmp_path / "world", train=2, test=1, square=True))
    config = ilora.preset("default", generator=str(folder), data=data, intrinsic="depth", steps=1, batch=2, rank=2)
    run = ilora.fit.fit(config.replace(random_weights=True, precision="fp32"), tmp_path / "run", device="cpu")
    about, kind = file.read(run)[1], intrinsics.intrinsic("depth")
    _, held = validation.held_out(config, "depth", datasets.dataset(data, intrinsic="depth"))
    predictor, errors = Predictor(run, device="cpu"), []
    for example in (held[index] for index in range(len(held))):
        found = predictor.paint(example.image[None])["depth"]
        errors.append(kind.metrics(found, example.map[None], example.valid[None])[kind.primary])
    assert about.scores["images"] == len(errors) == 2
    assert about.scores[kind.primary] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-3)


def test_fits_leave_out_what_the_code_lost(folder: Path, tmp_path: Path) -> None:
    examples = datasets.dataset(str(world.write(tmp_path / "world", train=2, test=1)), intrinsic="depth", split="train")
    generator = load(str(folder))
    records = codes.encode(generator, intrinsics.intrinsic("depth"), examples, mirrored=False)
    image = torch.stack([codes.square(examples[n], intrinsics.intrinsic("depth"), side=32).image for n in range(2)])
    seen = generator.residual(image, records.code) < LOST
    assert torch.equal(records.valid & ~seen, torch.zeros_like(seen))
    assert 0 < seen.float().mean() < 1

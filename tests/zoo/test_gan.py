"""The GAN's training: each part against its formula, and from pictures to a folder that predicts, in a few steps."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from ilora.generators import load
from ilora.generators.inversion import EncoderShape
from ilora.generators.stylegan2 import TAPS
from ilora.generators.stylegan_layers import Dense
from ilora.ops.fir import fir
from ilora.zoo import adversarial, decoder, gan, inverter, recipes
from ilora.zoo.cards import show
from ilora.zoo.discriminator import Discriminator, spread
from ilora.zoo.make import make
from ilora.zoo.pictures import Pictures
from ilora.zoo.recipes import Adversarial, GanRecipe, Training
from tests import tiny_stylegan
from tests.zoo.test_training import shards  # noqa: F401

TINY = GanRecipe(
    name="tiny-gan",
    description="for tests",
    size=32,
    pictures=24,
    held_out=8,
    noise=8,
    style=8,
    mapping=2,
    widths=(8, 8, 8, 8),
    small=8,
    decoder=Training(steps=3, batch=4, lr=1e-3),
    growth=(1, 2),
    prior_widths=(8, 8),
    prior=Adversarial(steps=2, batch=4, anchor=0.0),
    group=2,
    gan=Adversarial(steps=4, batch=4, lazy=2, ahead=1),
    encoder_width=8,
    encoder_features=8,
    eye=Training(steps=2, batch=4, lr=1e-3),
    encoder=Training(steps=3, batch=4, lr=1e-3),
    refinement=2,
)


def pictures(count: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def codes_of(images: torch.Tensor, *, side: int = 8, count: int = 8) -> decoder.Components:
    pixels = (images * 127.5 + 127.5).round().byte()
    return decoder.components(Pictures(pixels, [""] * len(pixels), [{}] * len(pixels), [0]), side, count)


def test_rooms_gan_fits_its_six_megabytes() -> None:
    chosen = recipes.recipe("rooms-gan")
    with torch.device("meta"):
        generator = gan.fresh(chosen).generator
        encoder = gan.Encoder(gan.encoder_shape(chosen))
    numbers = sum(value.numel() for part in (generator, encoder) for value in part.state_dict().values())
    assert generator.shape.resolution == chosen.size == 64
    assert 2 * numbers < 6e6
    with pytest.raises(ValueError, match=r"expected a recipe among .*rooms-gan.*, got 'rooms'"):
        recipes.recipe("rooms")


def test_spread_by_hand() -> None:
    """Two groups of two: images 0 and 2 differ by 4 everywhere, 1 and 3 not at all."""
    x = torch.zeros(4, 3, 2, 2)
    x[2] = 4
    found = spread(x, 2)
    assert found.shape == (4, 1, 2, 2)
    assert_close(found[:, 0, 0, 0], torch.tensor([2.0, 1e-4, 2.0, 1e-4]))


def test_a_batch_that_looks_alike_is_told_apart() -> None:
    """The discriminator sees variety: the same image gets another logit beside copies of itself."""
    torch.manual_seed(0)
    judge = Discriminator((8, 8, 8, 8), group=4)
    images = pictures(4)
    assert judge(images).shape == (4,)
    assert abs(judge(images)[0] - judge(images[:1].expand(4, -1, -1, -1))[0]).item() > 1e-4


def test_equalised_steps_are_those_of_scaled_weights() -> None:
    """Against the published way: unit-variance weights, times their gain at each call, one learning rate."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"mapping": nn.Sequential(Dense(6, 5))})
    raw = {name: value.detach().clone() for name, value in net.named_parameters()}
    gain, rate = 0.01 / math.sqrt(6), 0.01
    weight = nn.Parameter(raw["mapping.0.weight"] / gain)
    bias = nn.Parameter(raw["mapping.0.bias"] / rate)
    theirs = torch.optim.Adam([weight, bias], lr=0.1, betas=(0.0, 0.99), eps=1e-12)
    _, ours = adversarial.equalised(net, 0.1)
    ours.param_groups[0]["eps"] = ours.param_groups[1]["eps"] = 1e-12
    x, y = torch.randn(16, 6), torch.randn(16, 5)
    for _ in range(5):
        for optimizer, painted in (
            (theirs, lambda: F.linear(x, weight * gain, bias * rate)),
            (ours, lambda: net["mapping"](x)),
        ):
            optimizer.zero_grad()
            (painted() - y).square().mean().backward()
            optimizer.step()
    assert_close(net["mapping"][0].weight, weight * gain, rtol=1e-3, atol=1e-5)
    assert_close(net["mapping"][0].bias, bias * rate, rtol=1e-3, atol=1e-5)
    assert (net["mapping"][0].weight - raw["mapping.0.weight"]).abs().max() > 1e-3


def test_r1_is_the_squared_slope_of_the_logits() -> None:
    """The slope itself against finite differences along a random direction."""
    judge, images = gan.fresh(TINY).discriminator, pictures(4)
    with_r1, without = (adversarial.judge(judge, images, images.flip(0), step, TINY.gan).detach() for step in (0, 1))
    leaf = images.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(judge(leaf).sum(), leaf)
    with torch.no_grad():
        exact, way = copy.deepcopy(judge).double(), torch.randn(images.shape, dtype=torch.double)
        ends = [exact(images + sign * 1e-7 * way).sum() for sign in (1, -1)]
    assert_close((ends[0] - ends[1]) / 2e-7, (slope * way).sum(), rtol=1e-3, atol=1e-4)
    expected = TINY.gan.lazy * TINY.gan.r1 / 2 * slope.square().sum((1, 2, 3)).mean()
    assert_close(with_r1 - without, expected, rtol=1e-3, atol=1e-5)


def test_components_are_uncorrelated_and_rebuild_what_they_are_of() -> None:
    """Unit covariance over pictures and mirror images; all components of few pictures lose nothing (numpy's SVD)."""
    images = (pictures(20) * 127.5 + 127.5).round().div(127.5).sub(1)
    codes, both = codes_of(images), torch.cat([images, images.flip(3)])
    style = codes.style(both)
    assert_close(style.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    assert_close(torch.cov(style.T), torch.eye(8), atol=1e-3, rtol=0)
    small = F.avg_pool2d(both, 4).flatten(1).numpy()
    spread = np.linalg.svd(small - small.mean(0), compute_uv=False)[:8] / np.sqrt(len(small) - 1)
    lengths = codes.axes.norm(dim=0).reciprocal().flip(0)
    assert_close(lengths, torch.from_numpy(spread).float(), rtol=1e-3, atol=0)


def test_components_are_made_once_and_point_one_way(tmp_path) -> None:
    """What a resume reads are the bits of the first start, whatever it would find itself."""
    pixels = (pictures(20) * 127.5 + 127.5).round().byte()
    shown = Pictures(pixels, [""] * 20, [{}] * 20, list(range(20)))
    made = decoder.kept(tmp_path / "components.safetensors", shown, 8, 8, device="cpu")
    again = decoder.kept(tmp_path / "components.safetensors", shown[:10], 8, 8, device="cpu")
    assert torch.equal(made.axes, again.axes) and torch.equal(made.mean, again.mean) and again.side == 8
    assert torch.equal(made.axes, decoder.components(shown, 8, 8).axes)
    halves = made.axes.unflatten(0, (3, 8, 8)).split(4, dim=2)
    left, right = (half.flatten(0, 2) for half in (halves[0], halves[1].flip(2)))
    assert (left.amax(0) > -left.amin(0)).all()
    odd = (left + right).abs().amax(0) < 1e-3  # these would have two largest entries
    assert odd.any() and ((left - right).abs().amax(0) < 1e-3)[~odd].all()


def test_a_resolution_begins_silent(tmp_path) -> None:
    """Until a side learns, its image is the smaller one, brought to twice its side by the resampling filter."""
    real, synthesis = pictures(), gan.fresh(TINY).generator.synthesis
    before, codes = synthesis.b8.torgb.conv.weight.clone(), codes_of(real)

    def learn(steps: int, growth: tuple[int, ...]) -> None:
        chosen = TINY.replace(decoder=TINY.decoder.replace(steps=steps), growth=growth)
        folder = tmp_path / str(growth)
        decoder.train_decoder(synthesis, chosen, folder, codes=codes, reals=(lambda index: real[index], 16))

    learn(2, (2, 2))
    styles, painted = codes.style(real[:2])[:, None].expand(-1, 8, -1), []
    for synthesis.levels in (2, 3, 4):
        painted.append(synthesis(styles))
    assert painted[0].std() > 0 and not torch.equal(before, synthesis.b8.torgb.conv.weight)
    for small, image in itertools.pairwise(painted):
        assert_close(image, fir(small, torch.tensor(TAPS), up=2, padding=(2, 1, 2, 1), gain=4))
    learn(3, (1, 1))
    assert synthesis.levels == 4 and synthesis.b32.torgb.conv.weight.abs().max() > 0


def test_a_decoder_learns_to_paint_pictures_again(tmp_path) -> None:
    """Four flat pictures of unlike colours: each is painted again closer to itself than to the others."""
    real = torch.tensor([[0.9, 0, 0], [-0.9, 0, 0], [0, 0.7, 0], [0, -0.7, 0.5]]).view(4, 3, 1, 1).expand(-1, -1, 8, 8)
    schedule = Training(steps=120, batch=8, lr=0.01, warmup=1, ema=0.9)
    chosen = TINY.replace(size=8, style=3, noise=3, widths=(8, 8), growth=(40,), decoder=schedule)
    codes = codes_of(real, count=3)
    synthesis = decoder.train_decoder(
        gan.fresh(chosen).generator.synthesis, chosen, tmp_path, codes=codes, reals=(lambda index: real[index], 4)
    )
    with torch.no_grad():
        painted = synthesis(codes.style(real)[:, None].expand(-1, 4, -1))
    assert torch.equal(torch.cdist(painted.flatten(1), real.flatten(1)).argmin(1), torch.arange(4))


def test_a_prior_learns_where_pictures_are(tmp_path) -> None:
    """Pictures all of whose styles lie on one side: after some updates most styles drawn lie there, too."""
    real = (pictures() + pictures().flip(3)) / 2  # their mirror images are the same
    codes = codes_of(real)
    chosen = TINY.replace(prior=Adversarial(steps=60, batch=8, lr=0.01, r1=0.01, anchor=0.0), style_noise=0.05)
    mapping, z = gan.fresh(TINY).generator.mapping, torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    side = codes.style(real)[:, -1]
    few = real[side < side.median()]

    def drawn() -> float:
        with torch.no_grad():
            return (mapping(z)[:, -1] < side.median()).float().mean().item()

    before = drawn()
    decoder.train_prior(mapping, chosen, tmp_path, codes=codes, reals=(lambda index: few[index], len(few)))
    assert before < 0.5 < drawn()


def test_styles_are_painted_as_the_pictures_that_they_are_of() -> None:
    """As many components as a space of small pictures has: back and forth is the identity."""
    real = pictures(16)
    codes = codes_of(real, side=2, count=12)
    assert_close(codes.paint(codes.style(real)), F.avg_pool2d(real, 16), atol=1e-3, rtol=0)


def test_an_encoder_begins_with_components(tmp_path) -> None:
    real = pictures()
    codes = codes_of(real)
    encoder = gan.Encoder(gan.encoder_shape(TINY))
    chosen = TINY.replace(eye=Training(steps=60, batch=8, lr=5e-3, warmup=1, ema=0.9))
    mean = torch.linspace(-1, 1, 8)
    decoder.train_eye(encoder, chosen, tmp_path, codes=codes, mean=mean, reals=(lambda index: real[index], 16))
    with torch.no_grad():
        off = mean + encoder(real) - codes.style(real)[:, None]  # [16, 8 styles, 8]
    assert off.square().mean((0, 2)).max() < 0.8  # of unit variance: every layer's style is under way


def turn_of(pair: adversarial.Pair, real: torch.Tensor, *, side: int = 32) -> adversarial.Turn:
    codes = codes_of(pictures()[:, :, :side, :side])
    return lambda index, numbers: (real[index], gan.paint(pair.generator, codes, real[index], numbers))


def test_half_of_the_fakes_are_real_pictures_painted_again() -> None:
    pair, images = gan.fresh(TINY), pictures(4)
    codes = codes_of(pictures())
    painted, other = (
        gan.paint(pair.generator, codes, seen, torch.Generator().manual_seed(2))
        for seen in (images, torch.cat([-images[:2], images[2:]]))
    )
    assert torch.equal(painted[2:], other[2:])
    assert (painted[:2] - other[:2]).abs().amax((1, 2, 3)).min() > 1e-3


def test_the_discriminator_learns_ahead(tmp_path) -> None:
    real, fresh, pair = pictures(), gan.fresh(TINY), gan.fresh(TINY)
    config = TINY.gan.replace(steps=2, ahead=2)
    adversarial.train_pair(pair, turn_of(pair, real), config, tmp_path, reals=16)
    for name, value in fresh.state_dict().items():
        same = torch.equal(value, pair.state_dict()[name])
        assert same == (name.startswith("generator.") or "taps" in name), name


def test_noise_stays_as_it_is(tmp_path) -> None:
    """All of the generator learns, but for the strength of its noise."""
    real, pair = pictures(), gan.fresh(TINY)
    before = {name: value.clone() for name, value in pair.generator.named_parameters()}
    gan.still(pair.generator)
    adversarial.train_pair(pair, turn_of(pair, real), TINY.gan.replace(ahead=0), tmp_path, reals=16)
    for name, value in pair.generator.named_parameters():
        assert torch.equal(value, before[name]) == name.endswith("noise_strength"), name


def test_a_stopped_training_ends_with_the_same_bits(tmp_path) -> None:
    real, config = pictures(), TINY.gan.replace(snapshots=(2,))
    whole, parts, fresh = (gan.fresh(TINY) for _ in range(3))
    adversarial.train_pair(whole, turn_of(whole, real), config, tmp_path / "whole", reals=16)

    turn = turn_of(parts, real)

    def until_the_third(index: torch.Tensor, numbers: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        until_the_third.calls += 1
        if until_the_third.calls == 3:
            raise KeyboardInterrupt
        return turn(index, numbers)

    until_the_third.calls = 0
    with pytest.raises(KeyboardInterrupt):
        adversarial.train_pair(parts, until_the_third, config, tmp_path / "parts", reals=16, minutes=0)
    adversarial.train_pair(fresh, turn_of(fresh, real), config, tmp_path / "parts", reals=16)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name
    assert sorted(path.stem for path in (tmp_path / "parts" / "snapshots").iterdir()) == ["00000008", "00000016"]
    assert not torch.equal(whole.generator.synthesis.b4.const, gan.fresh(TINY).generator.synthesis.b4.const)


def test_a_discriminator_learns_to_tell_and_a_generator_to_please(tmp_path) -> None:
    """A few updates on flat bright pictures: the mean of new images moves towards theirs, without any anchor."""
    chosen = TINY.replace(size=8, widths=(8, 8))
    pair, config = gan.fresh(chosen), Adversarial(steps=40, batch=8, lr=0.01, r1=0.01, anchor=0.0)
    bright = torch.full((4, 3, 8, 8), 0.8)
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(9))

    def mean() -> float:
        with torch.no_grad():
            return pair.generator(pair.generator.mapping(z)[:, None].expand(-1, 4, -1)).mean().item()

    before = mean()
    adversarial.train_pair(pair, turn_of(pair, bright, side=8), config, tmp_path, reals=4)
    assert abs(mean() - 0.8) < abs(before - 0.8)


def test_an_encoder_learns_the_styles_of_its_generator(tmp_path) -> None:
    folder = tiny_stylegan.write_stylegan2(tmp_path / "gan", encoder=False)
    network = load(str(folder)).network
    encoder = gan.Encoder(EncoderShape(styles=8, w=16, side=16, width=8, features=64))
    inverter.train_encoder(encoder, network, Training(steps=20, batch=8, lr=4e-3, warmup=1, ema=0.5), tmp_path / "log")
    rows = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    styles = inverter._styles(network, 32, torch.Generator().manual_seed(3))
    mean = network.mapping.centre()[:, None]
    found = encoder(network(styles).clamp(-1, 1))
    assert (found - (styles - mean)).square().mean() < 0.9 * (styles - mean).square().mean()
    assert rows[-1]["step"] == 20


def test_from_pictures_to_a_card(shards, tmp_path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setitem(recipes.RECIPES, "tiny-gan", TINY)
    place = make("tiny-gan", tmp_path / "out", pictures=shards, device="cpu")
    card = json.loads((place / "card.json").read_text())
    assert [rung["images"] for rung in card["ladder"]] == [16]
    assert all(
        math.isfinite(rung[key]) for rung in card["ladder"] for key in ("frechet", "kernel", "sliced_wasserstein")
    )
    assert card["images_seen"] == {"decoder": 12, "gan": 16, "encoder": 12}
    assert 0 < card["ceiling"]["picture"]["residual"] < 2
    assert (place / "samples.png").is_file()
    assert (tmp_path / "out" / "components.safetensors").is_file()
    generator = load(str(place))
    assert generator.resolution == 32 and generator.inversion.steps == 2
    assert sum(value.numel() for value in generator.network.state_dict().values()) == card["parameters"]["generator"]

    monkeypatch.setattr("ilora.zoo.cards.WEIGHTS", place.parent)
    assert "decoder 12, gan 16, encoder 12" in show("generator")
    with pytest.raises(FileExistsError, match="expected an empty folder"):
        make("tiny-gan", tmp_path / "out", pictures=shards)
    (tmp_path / "out" / "gan" / "snapshots" / ".00000016.0a1b.safetensors").write_bytes(b"of a write that was killed")
    assert make("tiny-gan", tmp_path / "out", pictures=shards, resume=True, snapshots=True, device="cpu") == place
    assert (tmp_path / "out" / "ladder" / "00000016" / "generator.safetensors").is_file()

"""StyleGAN's equations against loops and closed forms, and the family behind the protocol."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from ilora.adapters import lora
from ilora.config import AdapterConfig
from ilora.generators import load
from ilora.generators.base import Generator, Inverting
from ilora.generators.stylegan import TARGETS, StyleGAN
from ilora.generators.stylegan2 import Shape2, StyleGAN2, widths
from ilora.generators.stylegan_layers import Mapping, demodulation, modulated, truncate
from tests import tiny_stylegan

DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 4, 5, generator=DRAWS, dtype=torch.float64)
WEIGHT = torch.randn(4, 3, 3, 3, generator=DRAWS, dtype=torch.float64)
STYLE = torch.randn(2, 3, generator=DRAWS, dtype=torch.float64)


def by_loops(*, up: bool) -> Tensor:
    """Karras et al. 2020, eqs. 1 to 3 as they stand: a kernel for each image, then each pixel for itself."""
    b, _, h, w = X.shape
    rows, columns = (2 * h + 1, 2 * w + 1) if up else (h, w)
    result = torch.zeros(b, 4, rows, columns, dtype=torch.float64)
    for image in range(b):
        kernel = WEIGHT * STYLE[image][None, :, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        for y in range(h):
            for x in range(w):
                for k in range(3):
                    for l in range(3):  # noqa: E741
                        # Correlation reads (y + k - 1, x + l - 1); transposed, each pixel paints (2 y + k, 2 x + l).
                        if up:
                            result[image, :, 2 * y + k, 2 * x + l] += kernel[:, :, k, l] @ X[image, :, y, x]
                        elif 0 <= y + k - 1 < h and 0 <= x + l - 1 < w:
                            result[image, :, y, x] += kernel[:, :, k, l] @ X[image, :, y + k - 1, x + l - 1]
    return result


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_is_that_of_the_equations(up: bool) -> None:
    assert_close(modulated(X, WEIGHT, STYLE, padding=1, up=up), by_loops(up=up), rtol=1e-6, atol=1e-6)


def test_demodulation_gives_unit_norm_whatever_the_style() -> None:
    kernels = WEIGHT * STYLE[:, None, :, None, None] * demodulation(WEIGHT, STYLE)[:, :, None, :, :]
    assert_close(kernels.square().sum((2, 3, 4)), torch.ones(2, 4, dtype=torch.float64), rtol=1e-5, atol=0)


def test_mapping_by_hand() -> None:
    """One layer, one input of each kind: z = 3 has unit length sqrt(1) after normalisation, the class too."""
    mapping = Mapping(tiny_stylegan.mapping(z=1, w=2, layers=1, classes=2, class_width=1)).requires_grad_(False)
    mapping.fc0.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    mapping.fc0.bias.zero_()
    mapping.embed.weight.copy_(torch.tensor([[0.5, -2.0]]))
    mapping.embed.bias.zero_()
    found = mapping(torch.tensor([[3.0], [-3.0]]), torch.tensor([0, 1]))
    root = math.sqrt(2)
    assert_close(found, torch.tensor([[root, -0.2 * root], [-0.2 * root, root]]))


def test_truncation_by_hand() -> None:
    style, centre = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    found = truncate(style, centre, layers=3, psi=0.5, cutoff=2)
    assert_close(found[0], torch.tensor([[0.5, 2.0], [0.5, 2.0], [1.0, 3.0]]))
    assert torch.equal(truncate(style, centre, layers=3, psi=0.0)[0], centre.expand(3, 2))
    assert_close(truncate(style, centre, layers=2)[0], style.expand(2, 2))


def test_each_class_has_a_centre_of_its_own() -> None:
    mapping = Mapping(tiny_stylegan.mapping(classes=3, class_width=4, centres=3))
    mapping.w_avg.copy_(torch.arange(48.0).view(3, 16))
    assert torch.equal(mapping.centre(torch.tensor([2, 0])), mapping.w_avg[[2, 0]])
    assert_close(mapping.centre(), mapping.w_avg.mean(0, keepdim=True))


def test_an_image_is_the_sum_of_its_resolutions() -> None:
    """Without activations that reach colours, only biases paint: each is doubled on to the end, flat inside."""
    network = StyleGAN2(tiny_stylegan.shape2()).requires_grad_(False)
    for block in network.synthesis.children():
        block.torgb.conv.weight.zero_()
        block.torgb.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
    painted = network(torch.randn(1, 8, 16))
    assert_close(painted[0, :, 16, 16], 4 * torch.tensor([0.1, 0.2, -0.3]))


def test_the_sum_of_resolutions_is_not_rounded_under_autocast() -> None:
    """1 at 4 px and 2^-9 at 8, 16 and 32 px: bf16 holds each, but between 1 and 2 nothing finer than 2^-7."""
    network = StyleGAN2(tiny_stylegan.shape2()).requires_grad_(False)
    for level, block in enumerate(network.synthesis.children()):
        block.torgb.conv.weight.zero_()
        block.torgb.bias.fill_(2**-9 if level else 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        painted = network(torch.randn(1, 8, 16))
    assert painted.dtype == torch.float32
    assert torch.equal(painted[0, :, 16, 16], torch.full((3,), 1 + 3 * 2**-9))


def test_noise_is_constant_unless_it_is_asked_for() -> None:
    network, styles = tiny_stylegan.network2(), torch.randn(2, 8, 16)
    assert torch.equal(network(styles), network(styles))
    drawn = [network(styles, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert (drawn[0] - drawn[2]).abs().max() > 1e-3


def test_the_layers_of_w_plus_act_where_they_should() -> None:
    """The last style changes colours only; the first changes everything; each changes something."""
    network, styles = tiny_stylegan.network2(), torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(1))
    base, seen = network(styles), []
    features: list[Tensor] = []
    network.synthesis.b32.conv1.register_forward_hook(lambda _, __, x: features.append(x))
    for index in range(8):
        moved = styles.clone()
        moved[:, index] += 1
        seen.append((network(moved) - base).abs().max().item())
    assert min(seen) > 1e-3
    network(styles)
    same = [torch.equal(each, features[-1]) for each in features[:8]]
    assert same == [False] * 7 + [True]


def test_fourier_features_move_and_turn_with_their_style() -> None:
    source = tiny_stylegan.network3().synthesis.input
    source.affine.weight.zero_()

    def features(*turn: float) -> Tensor:
        source.affine.bias.copy_(torch.tensor(turn))
        return source(torch.zeros(1, 16))

    # A quarter turn of the frequencies (f R) is the quarter turn of the grid that they are read on, whose samples are
    # square; a sample is 1 / sampling_rate of the picture's side.
    upright = features(1.0, 0.0, 0.0, 0.0)
    assert_close(features(0.0, 1.0, 0.0, 0.0), upright.rot90(1, (2, 3)), rtol=1e-3, atol=1e-3)
    assert_close(features(2.0, 0.0, 0.0, 0.0), upright)  # the length of the turn does not matter
    moved = features(1.0, 0.0, 3 / 16, 2 / 16)
    assert_close(moved[:, :, 2:, 3:], upright[:, :, :-2, :-3], rtol=1e-3, atol=1e-3)


def test_fourier_features_stay_precise_in_a_network_of_half_precision() -> None:
    network, styles = tiny_stylegan.network3(), torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(2))
    before = network.synthesis.input(styles[:, 0])
    painted = network(styles)
    network.to(torch.bfloat16)
    assert network.synthesis.L0_20_12.conv.weight.dtype == torch.bfloat16
    assert torch.equal(network.synthesis.input(styles[:, 0]), before)
    assert_close(network(styles), painted, rtol=0.1, atol=0.03)


def test_a_stylegan_2_of_1024_px_moves_as_many_weights_as_in_the_paper() -> None:
    """Rank 8 on all affines: 8 (512 + inputs) a layer. I-LoRA's table says less than 0.6 % (arXiv 2311.17137)."""
    with torch.device("meta"):
        network = StyleGAN2(Shape2(widths=widths(1024)))
    count = lora.attach(network, AdapterConfig(rank=8), TARGETS["affine"])
    assert (count.moving, count.total) == (179_200, 30_370_060)
    assert str(count).endswith("(0.59 %)")
    with torch.device("meta"):
        smaller = StyleGAN2(Shape2(widths=widths(256)))
    assert lora.attach(smaller, AdapterConfig(rank=8), TARGETS["affine"]).moving == 151_552


@pytest.fixture(scope="module", params=["stylegan2", "stylegan3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    return getattr(tiny_stylegan, f"write_{request.param}")(made)


def test_it_follows_the_protocol(folder: Path) -> None:
    generator = load(str(folder))
    assert isinstance(generator, Generator) and isinstance(generator, Inverting) and isinstance(generator, StyleGAN)
    assert generator.size(300, 500) == (generator.resolution,) * 2
    assert generator.targets["attention"] == generator.targets["attention+conv"] == generator.targets["affine"]


def test_a_seed_paints_the_same_image_in_any_batch(folder: Path) -> None:
    generator = load(str(folder))
    images, codes = generator.sample([3, 4])
    alone, code = generator.sample([4])
    assert_close(images[1:], alone)
    assert_close(codes[1:], code)
    assert_close(generator.forward(codes).clamp(-1, 1), images)
    z = torch.from_numpy(np.random.RandomState(4).randn(1, 12)).float()
    assert_close(code[:, 0], generator.network.mapping(z))
    mean, _ = generator.sample([3, 4], truncation=0.0)
    assert_close(mean[0], mean[1])
    with pytest.raises(ValueError, match=r"below 2\^32, got 4294967296"):
        generator.sample([2**32])


def test_classes_are_asked_for_by_number(tmp_path: Path) -> None:
    from ilora.generators import stylegan_files

    shape = tiny_stylegan.mapping(classes=3, class_width=16)
    stylegan_files.write(tmp_path, tiny_stylegan.network2(mapping=shape), origin="a test")
    generator = load(str(tmp_path))
    first, second = (generator.sample([1], word)[0] for word in ("0", "2"))
    assert (first - second).abs().max() > 1e-2
    assert_close(generator.sample([1, 1], ["0", "2"])[1][1:], generator.sample([1], "2")[1])
    drawn = generator.sample([7])[0]
    assert any(torch.equal(drawn, generator.sample([7], str(number))[0]) for number in range(3))
    for word in ("3", "sofa"):
        with pytest.raises(ValueError, match=f"0 to 2, got '{word}'"):
            generator.sample([1], word)


@pytest.mark.parametrize("targets", ["affine", "affine+conv"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_start_silent_are_alive_merge_and_come_off(folder: Path, targets: str, method: str) -> None:
    generator = load(str(folder))
    network, (_, code) = generator.network, generator.sample([0, 1])
    before = generator.forward(code)
    lora.attach(network, AdapterConfig(method=method, rank=2), generator.targets[targets])
    assert_close(generator.forward(code), before)
    names = {name.partition(".lora_")[0] for name in lora.state(network)}
    assert not any("input" in name for name in names)
    assert any(name.endswith("conv") for name in names) == (targets == "affine+conv")

    # Each adapter's gradient arrives, and each of them changes the picture.
    up = [name for name in lora.state(network) if "lora_B" in name]
    weights = dict(zip(lora.state(network), lora.trainable(network), strict=True))
    generator.loss(code, before + 1, torch.ones(2, 1, *before.shape[-2:], dtype=torch.bool)).sum().backward()
    assert all(weights[name].grad.abs().max() > 0 for name in up)
    for name in up:
        with torch.no_grad():
            weights[name].add_(0.3)
            assert (generator.forward(code) - before).abs().max() > 1e-5, name
            weights[name].sub_(0.3).add_(0.05)
    moved = generator.forward(code).detach()
    with lora.disabled(network):
        assert torch.equal(generator.forward(code), before)
    lora.merge(network)
    assert_close(generator.forward(code), moved, rtol=1e-4, atol=1e-4)
    lora.detach(network)
    assert torch.equal(generator.forward(code), before)


def test_a_fit_of_random_weights_begins_with_pictures(folder: Path) -> None:
    """The control draws the network as it is born, so that its pictures still vary."""
    from ilora.adapters.controls import randomise

    generator = load(str(folder))
    randomise(generator.network, 1)
    images, _ = generator.sample([0, 1])
    assert images.isfinite().all() and (images[0] - images[1]).abs().mean() > 0.01


def test_files_are_recognised_by_what_they_are(tmp_path: Path, folder: Path) -> None:
    from ilora.generators.stylegan import recognises

    assert recognises(str(folder)) and recognises(str(folder) + "/")
    (tmp_path / "a.pkl").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    assert recognises(str(tmp_path / "a.pkl"))
    assert not any(recognises(name) for name in (str(tmp_path), "toy", "a/b", str(tmp_path / "absent.pkl"), ""))


def test_broken_folders_are_named(tmp_path: Path) -> None:
    made = tiny_stylegan.write_stylegan2(tmp_path / "a")
    (made / "generator.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"generator\.safetensors"):
        load(str(made))
    made = tiny_stylegan.write_stylegan2(tmp_path / "b")
    config = (made / "config.json").read_text()
    (made / "config.json").write_text(config.replace('"stylegan2"', '"stylegan9"'))
    with pytest.raises(ValueError, match="architecture among stylegan2, stylegan3, got 'stylegan9'"):
        load(str(made))
    (made / "config.json").write_text(config.replace('"w": 16', '"w": 8'))
    with pytest.raises(ValueError, match="do not fit the network that they describe"):
        load(str(made))
    (made / "config.json").write_text(config[:-3])
    with pytest.raises(ValueError, match="must be JSON"):
        load(str(made))


def test_loss_counts_valid_pixels_only(folder: Path) -> None:
    generator = load(str(folder))
    image, code = generator.sample([0])
    side = generator.resolution
    painted, valid = generator.forward(code), torch.zeros(1, 1, side, side, dtype=torch.bool)
    valid[..., : side // 2] = True
    target = painted.clone()
    target[..., : side // 2] += 0.5
    target[..., side // 2 :] = 9
    assert_close(generator.loss(code, generator.target(target), valid), torch.tensor([0.25]))
    assert torch.equal(generator.decode(generator.target(image)), image)
    assert F.mse_loss(painted, painted) == 0

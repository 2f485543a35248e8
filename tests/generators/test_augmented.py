"""Several passes beside the picture: the wider network, what it learns, samples, ensembles, and fits that resume."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

import ilora.fit
from ilora.adapters import file, lora
from ilora.adapters.file import About
from ilora.codes import drawing
from ilora.config import AdapterConfig, Readout, Sampling
from ilora.fit import fit
from ilora.generators import augmented, load
from ilora.generators.checkpoints import picture_hash
from ilora.generators.latent_diffusion import LatentDiffusion
from ilora.intrinsics import intrinsic
from ilora.ops import diffusion
from ilora.predict import Predictor, predict
from ilora.presets import preset
from ilora.run import Run
from tests import tiny, world

WIDE = "attention+conv+in"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.smallest(tmp_path_factory.mktemp("smallest")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"), train=4, test=2)


def opened(checkpoint: str, **sampling: object) -> LatentDiffusion:
    readout = Readout(paint="augmented", sampling=Sampling(**{"passes": 2} | sampling))
    return load(checkpoint, readout=readout)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(batch: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


# The network.


def test_a_fresh_adapter_with_zeros_for_the_picture_is_the_base_on_the_noisy_half(checkpoint: str) -> None:
    single, wide = load(checkpoint), opened(checkpoint)
    assert wide.network.conv_in.weight.shape == (32, 8, 3, 3)
    lora.attach(wide.network, AdapterConfig(rank=2), wide.targets[WIDE])
    noisy, shown, times = noise(2, 4, 8, 8), noise(2, 4, 8, 8, seed=1), torch.tensor([3, 900])
    with torch.no_grad():
        expected = single._network(noisy, times, single._condition())
        found = wide._network(torch.cat([noisy, shown], 1), times, wide._condition())
        assert_close(found, expected, atol=1e-5, rtol=0)
        assert torch.equal(wide._network(torch.cat([noisy, -shown], 1), times, wide._condition()), found)


def test_the_pictures_half_comes_from_another_checkpoint(checkpoint: str, tmp_path: Path) -> None:
    weight = noise(32, 8, 3, 3)
    (tmp_path / "unet").mkdir()
    save_file(
        {"conv_in.weight": weight, "other": weight + 1}, tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    )
    save_file({"model.diffusion_model.input_blocks.0.0.weight": weight}, tmp_path / "single.safetensors")
    base = load(checkpoint).network.conv_in
    for place in (tmp_path, tmp_path / "single.safetensors"):
        network = load(checkpoint, readout=Readout(paint="augmented", picture_weights=str(place))).network
        assert torch.equal(network.conv_in.weight, torch.cat([base.weight, weight[:, 4:]], 1))
        assert torch.equal(network.conv_in.bias, base.bias)
    save_file({"conv_in.weight": weight[:, :4].clone()}, tmp_path / "narrow.safetensors")
    save_file({"something": weight}, tmp_path / "odd.safetensors")
    for name, words in (("narrow", r"\[32, 8, 3, 3\], .* got \[32, 4, 3, 3\]"), ("odd", "must hold one of conv_in")):
        with pytest.raises(ValueError, match=words):
            _ = load(
                checkpoint, readout=Readout(paint="augmented", picture_weights=f"{tmp_path / name}.safetensors")
            ).network


def test_another_file_under_the_name_of_the_pictures_half_is_refused(checkpoint: str, tmp_path: Path) -> None:
    place = tmp_path / "single.safetensors"
    save_file({"conv_in.weight": noise(32, 8, 3, 3)}, place)
    readout = Readout(paint="augmented", picture_weights=str(place))
    generator = load(checkpoint, readout=readout)
    about = About(generator=checkpoint, fingerprint=generator.fingerprint, intrinsic="normal", units="",
                  readout=readout, picture=picture_hash(readout))  # fmt: skip
    file.match(about, generator)
    save_file({"conv_in.weight": noise(32, 8, 3, 3, seed=1)}, place)
    with pytest.raises(ValueError, match=r"made with the first layer \w{32} of .*single\.safetensors, got \w{32}"):
        file.match(about, generator)
    assert picture_hash(readout.replace(paint="single")) is None


def test_it_still_samples_pictures(checkpoint: str) -> None:
    expected, _ = load(checkpoint).sample([3], "a red sofa", steps=2)
    assert_close(opened(checkpoint).sample([3], "a red sofa", steps=2)[0], expected, atol=1e-5, rtol=0)


def test_other_families_paint_in_one_pass() -> None:
    with pytest.raises(ValueError, match="paint must be single for toy, which paints in one pass, got 'augmented'"):
        load("toy", readout=Readout(paint="augmented"))


# What it learns.


def test_the_loss_is_that_of_the_velocity(checkpoint: str) -> None:
    generator = opened(checkpoint)
    code, target = generator.encode(picture()), generator.target(-picture())
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[..., 8:] = False  # cells of 2 px
    torch.manual_seed(5)
    found = generator.loss(code, target, valid)
    torch.manual_seed(5)
    abar = diffusion.zero_terminal_snr(generator.scheduler.alphas_cumprod)
    for place in range(2):
        time, drawn = torch.randint(1000, ()), torch.randn(4, 8, 8)
        alpha, sigma = abar[time].sqrt().float(), (1 - abar[time]).sqrt().float()
        raw = code[place] / generator.codec.config.scaling_factor + generator._shift  # what the codec's encoder gives
        given = torch.cat([alpha * target[place] + sigma * drawn, raw])[None]
        output = generator._network(given, time, generator._condition())[0]
        error = (output - (alpha * drawn - sigma * target[place]))[..., :4].square().mean()
        assert_close(found[place], error, rtol=1e-4, atol=1e-5)


def test_it_learns_from_the_picture(checkpoint: str) -> None:
    """Two pictures with opposite targets: at full noise only the picture can tell which."""
    generator = opened(checkpoint)
    code = torch.stack([torch.ones(4, 8, 8), -torch.ones(4, 8, 8)])
    target = -code
    records = [code, target, torch.ones(2, 1, 16, 16, dtype=torch.bool)]
    records = [value.repeat(4, 1, 1, 1) for value in records]

    def loss(step: int) -> torch.Tensor:
        with drawing(step, seed=0, rank=0):
            return generator.loss(*records).mean()

    lora.attach(generator.network, AdapterConfig(rank=8), generator.targets[WIDE])
    optimizer, before = torch.optim.AdamW(lora.trainable(generator.network), 1e-2), loss(1000).item()
    for step in range(30):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    assert loss(1000) < 0.8 * before
    with torch.no_grad():
        first, second = generator.paint(code).mean((1, 2, 3))
    assert second > first + 0.2


def test_draws_are_those_of_the_update_alone() -> None:
    def drawn(step: int, rank: int = 0) -> torch.Tensor:
        with drawing(step, seed=3, rank=rank):
            return torch.rand(4)

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = drawn(7)
    assert torch.equal(torch.rand(3), expected)  # nobody else's random numbers were used up
    assert torch.equal(drawn(7), first)
    assert not torch.equal(drawn(8), first) and not torch.equal(drawn(7, rank=1), first)


def test_a_batch_draws_like_its_parts() -> None:
    target, abar = noise(4, 2, 3, 3), torch.linspace(0.99, 0, 10, dtype=torch.float64)
    with drawing(0, seed=0, rank=0):
        whole = augmented.lesson(target, abar)
    with drawing(0, seed=0, rank=0):
        parts = [augmented.lesson(part, abar) for part in target.split(2)]
    assert torch.equal(whole.times, torch.cat([part.times for part in parts]))
    assert torch.equal(whole.noisy, torch.cat([part.noisy for part in parts]))


# Samples.


def test_seeds_repeat_and_a_batch_does_not_mix_its_pictures(checkpoint: str) -> None:
    generator = opened(checkpoint)
    code = generator.encode(picture())
    lora.attach(generator.network, AdapterConfig(rank=2), generator.targets[WIDE])
    with torch.no_grad():
        for weight in lora.trainable(generator.network):
            weight.add_(0.05 * noise(*weight.shape))
        first = generator.paint(code)
        assert torch.equal(generator.paint(code), first)
        assert_close(generator.paint(code[1:]), first[1:], atol=1e-4, rtol=1e-4)
        generator.readout = Readout(paint="augmented", sampling=Sampling(passes=2, seed=1))
        assert (generator.paint(code) - first).abs().max() > 1e-3
        guided = Sampling(passes=2, guidance=3.0, image_guidance=1.5)
        generator.readout = Readout(paint="augmented", sampling=guided)
        assert (generator.paint(code) - first).abs().max() > 1e-3


def draw(folder: Path, checkpoint: str, name: str, readout: Readout) -> Path:
    """An adapter with random weights."""
    generator, config = load(checkpoint, readout=readout), AdapterConfig(rank=2, targets=WIDE)
    lora.attach(generator.network, config, generator.targets[WIDE])
    weights = {key: 0.1 * noise(*value.shape) for key, value in lora.state(generator.network).items()}
    about = About(generator=checkpoint, fingerprint=generator.fingerprint, intrinsic=name, units="", adapter=config,
                  readout=readout)  # fmt: skip
    file.write(folder / name / file.FILE, weights, about)
    return folder / name


@pytest.fixture(scope="module")
def runs(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One adapter that paints in one pass, and one that paints in several."""
    folder = tmp_path_factory.mktemp("runs")
    draw(folder, checkpoint, "normal", Readout())
    draw(folder, checkpoint, "depth", Readout(paint="augmented", sampling=Sampling(passes=2)))
    return folder


def test_one_generator_wears_adapters_of_both_kinds(runs: Path) -> None:
    both, image = Predictor(runs), picture(1)[0]
    found = both(image)
    for name in ("normal", "depth"):
        assert torch.equal(found[name], Predictor(runs / name)(image)[name])
    assert both.generator.readout == Readout()


def test_an_ensemble_is_made_of_its_samples(runs: Path) -> None:
    predictor, image = Predictor(runs / "depth"), picture()
    samples = []
    for seed in (4, 5, 6):
        predictor.sampling(seed=seed)
        samples.append(predictor.paint(image)["depth"])
    predictor.sampling(seed=4, ensemble=3)
    found = predictor.estimate(image)["depth"]
    mean, apart = intrinsic("depth").ensemble(torch.stack(samples))
    assert_close(found.map, mean)
    assert_close(found.uncertainty, apart)
    assert apart.min() > 0


def test_an_ensemble_in_files(runs: Path, tmp_path: Path) -> None:
    predictor, photos = Predictor(runs), tmp_path / "photos"
    world.write(tmp_path / "world", train=1, test=0)
    (tmp_path / "world" / "images").rename(photos)
    predictor.sampling(ensemble=2)
    result = predict(photos, predictor, tmp_path / "maps", formats=("npy", "png16", "preview"))
    names = {path.name for path in next(iter(result.files.values()))}
    assert {"train0.depth.uncertainty.npy", "train0.depth.uncertainty.16bit.png", "train0.normal.npy"} < names
    assert not any("normal.uncertainty" in name for name in names)  # it paints in one pass
    apart = np.load(tmp_path / "maps" / "train0.depth.uncertainty.npy")
    assert apart.shape == (32, 40) and apart.min() >= 0 and apart.max() > 0
    about = json.loads((tmp_path / "maps" / "train0.depth.uncertainty.npy.json").read_text())
    assert about["units"].startswith("standard deviation of the samples")
    assert len(predict(photos, predictor, tmp_path / "maps", resume=True, formats=("npy",)).skipped) == 1
    predictor.sampling(passes=3)
    assert len(predict(photos, predictor, tmp_path / "maps", resume=True, formats=("npy",)).files) == 1


def test_one_pass_has_no_ensemble(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"ensemble must be for an adapter that paints in several passes, .* normal"):
        Predictor(runs / "normal").sampling(ensemble=4)
    for changes, words in (
        ({"passes": 51}, r"passes must be in \[1, 50\], got 51"),
        ({"pases": 5}, "did you mean 'passes'"),
    ):
        with pytest.raises(ValueError, match=words):
            Predictor(runs / "depth").sampling(**changes)


# Fits.


def config(checkpoint: str, data: Path, **changes: object) -> object:
    fields = {"generator": checkpoint, "data": str(data), "steps": 4, "batch": 3, "passes": 2, "rank": 2, "lr": 1e-3}
    return preset("augmented", **fields | {"checkpoint_every": 2, "mirror": False} | changes)


def test_killed_and_resumed_gives_the_same_bits(
    checkpoint: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = fit(config(checkpoint, data), tmp_path / "straight", device="cpu")
    rate = ilora.fit.rate

    def dies(step: int, config: object) -> float:
        if step == 3:
            raise SystemError("killed")
        return rate(step, config)

    with monkeypatch.context() as patched, pytest.raises(SystemError):
        patched.setattr(ilora.fit, "rate", dies)
        fit(config(checkpoint, data), tmp_path / "killed", device="cpu")
    torch.rand(7)  # another process has another random state
    resumed = fit(config(checkpoint, data), tmp_path / "killed", resume=True, device="cpu")
    assert Run(resumed).adapter.read_bytes() == Run(straight).adapter.read_bytes()
    about = file.read(straight)[1]
    assert (about.readout.paint, about.readout.sampling.passes) == ("augmented", 2)
    assert Predictor(straight)(picture(1)[0])["normal"].shape == (3, 16, 16)  # the file says all that it needs


def test_a_control_on_random_weights_is_painted_by_those(checkpoint: str, data: Path, tmp_path: Path) -> None:
    run = fit(config(checkpoint, data, steps=1, random_weights=True), tmp_path / "run", device="cpu")
    other = fit(config(checkpoint, data, steps=1), tmp_path / "other", device="cpu")
    generator, image = load(checkpoint), picture(1)
    before = {name: value.clone() for name, value in generator.network.state_dict().items()}
    predictor, plain = (Predictor(place, generator=generator) for place in (run, other))
    first, second = predictor.paint(image)["normal"], plain.paint(image)["normal"]
    assert (first - second).abs().max() > 0.05
    assert torch.equal(predictor.paint(image)["normal"], first)
    assert all(torch.equal(value, before[name]) for name, value in generator.network.state_dict().items())


def test_accumulation_changes_rounding_only(checkpoint: str, data: Path, tmp_path: Path) -> None:
    whole, parts = (
        file.read(fit(config(checkpoint, data, steps=1, accumulate=n), tmp_path / str(n), device="cpu"))[0]
        for n in (1, 3)
    )
    for name in whole:
        assert_close(parts[name], whole[name], rtol=1e-3, atol=2e-5)

"""Checkpoints of taming-transformers against its forward passes, written down apart in ``tests.tiny_taming``."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.generators import autoregressive, load
from tests import tiny_taming
from tests.generators.test_original import Hostile


def picture(batch: int = 2, side: int = tiny_taming.SIDE) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_tokens_are_identical_and_decoded_images_agree(tmp_path: Path) -> None:
    codec, _ = tiny_taming.models()
    checkpoint = tiny_taming.write_codec(tmp_path / "run", codec)
    assert autoregressive.recognises(str(checkpoint))
    generator = load(str(checkpoint))
    image = picture(4)
    tokens = codec.tokens(image)
    assert len(tokens.unique()) > 8
    assert torch.equal(generator.encode(image).long(), tokens)
    assert_close(generator.forward(tokens.float()), codec.decode(tokens), rtol=0, atol=1e-4)
    assert generator.resolution == tiny_taming.SIDE
    wide = picture(1, 12)[:, :, :8]  # not the training size
    assert torch.equal(generator.encode(wide).long(), codec.tokens(wide))


def test_the_transformer_gives_the_same_logits(tmp_path: Path) -> None:
    codec, prior = tiny_taming.models()
    generator = load(f"{tiny_taming.write_both(tmp_path / 'run', codec, prior)}@readout")
    row = codec.tokens(picture()).flatten(1)
    told = torch.cat([torch.full((2, 1), 3), row[:, :-1]], 1)
    ours = generator.prior
    shown = torch.cat([ours._start(["", ""]), ours._embed(row)[:, :-1]], 1)
    assert_close(ours._run(shown, last=16)[0], prior(told), rtol=0, atol=1e-5)
    images, drawn = generator.sample([4])
    assert_close(images, codec.decode(drawn.long()).clamp(-1, 1), rtol=0, atol=1e-4)


def test_a_class_is_the_first_token(tmp_path: Path) -> None:
    codec, prior = tiny_taming.models()
    labels = {"target": "taming.modules.util.Labelator", "params": {"n_classes": 10}}
    checkpoint = tiny_taming.write_both(tmp_path / "run", codec, prior, cond_stage_config=labels)
    generator = load(str(checkpoint))
    shares = prior(torch.tensor([[7]]))[0, -1].softmax(0)
    number = torch.rand(16, generator=torch.Generator().manual_seed(5))[0]
    first = generator.sample([5], "7")[1].flatten()[0]
    assert first == (shares.cumsum(0) <= number).sum()


def test_converted_it_is_the_same_generator(tmp_path: Path) -> None:
    codec, prior = tiny_taming.models()
    checkpoint = tiny_taming.write_both(tmp_path / "run", codec, prior)
    (tmp_path / "converted").mkdir()
    folder = autoregressive.convert(checkpoint, tmp_path / "converted")
    assert {path.name for path in folder.iterdir()} == {"model_index.json", "vqvae", "prior"}
    assert not list(folder.glob("**/*.bin"))
    before, after = load(f"{checkpoint}@readout"), load(f"{folder}@readout")
    image = picture()
    assert torch.equal(before.encode(image), after.encode(image))
    assert torch.equal(before.forward(before.encode(image)), after.forward(after.encode(image)))
    assert torch.equal(before.sample([2])[1], after.sample([2])[1])
    with pytest.raises(FileExistsError, match=r"expected an empty folder, got .* with files in it"):
        autoregressive.convert(checkpoint, folder)


def test_nothing_in_a_checkpoint_runs(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    checkpoint = tiny_taming.write_codec(tmp_path / "run", tiny_taming.models()[0], callbacks=[Hostile(trace)])
    for use in (lambda: load(str(checkpoint)), lambda: autoregressive.convert(checkpoint, tmp_path / "out")):
        with pytest.raises(ValueError, match="nothing in it was run"):
            use()
    assert not trace.exists() and not (tmp_path / "out").exists()


def test_a_configuration_runs_nothing_either(tmp_path: Path) -> None:
    checkpoint = tiny_taming.write_codec(tmp_path / "run", tiny_taming.models()[0])
    config = checkpoint.parents[1] / "configs" / "2021-project.yaml"
    trace = tmp_path / "it ran"
    config.write_text(f"model: !!python/object/apply:os.system ['touch {trace}']  # taming.models.\n")
    with pytest.raises(ValueError, match="plain YAML, and nothing in it was run"):
        load(str(checkpoint))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cond_stage_config": {"target": "taming.models.vqgan.VQModel"}}, r"follow nothing or a class, got .*VQModel"),
        (
            {"permuter_config": {"target": "taming.modules.transformer.permuter.Subsample"}},
            r"got .*Subsample",
        ),
        ({"first_stage_config": {**tiny_taming.FIRST, "target": "taming.models.vqgan.GumbelVQ"}}, r"got .*GumbelVQ"),
    ],
)
def test_kinds_without_a_counterpart_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    checkpoint = tiny_taming.write_both(tmp_path / "run", *tiny_taming.models(), **changes)
    with pytest.raises(ValueError, match=message):
        load(str(checkpoint))


def test_a_checkpoint_without_its_configuration_is_told_so(tmp_path: Path) -> None:
    checkpoint = tiny_taming.write_codec(tmp_path / "run", tiny_taming.models()[0])
    (checkpoint.parents[1] / "configs" / "2021-project.yaml").unlink()
    assert not autoregressive.recognises(str(checkpoint))
    with pytest.raises(FileNotFoundError, match=r"no \.yaml that names taming\.models\."):
        autoregressive.convert(checkpoint, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"expected a \.ckpt of taming-transformers"):
        autoregressive.convert(tmp_path / "absent.ckpt", tmp_path / "out")

"""EVA: directions and ranks by hand and against PEFT's own, and the life of an adapter whose ranks differ."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft import EvaConfig, LoraConfig, get_eva_state_dict
from torch import Tensor, nn
from torch.testing import assert_close

from ilora.adapters import eva, file, formats, lora
from ilora.config import FitConfig
from ilora.fit import adapt, fit
from ilora.generators import load
from ilora.generators.toy import Toy
from ilora.predictor import Predictor
from ilora.presets import preset
from ilora.records import Record
from tests import tiny, tiny_flow, tiny_stylegan, tiny_tokens, world


def records(count: int = 12) -> Record:
    """Pictures of the toy; nothing that EVA looks at depends on their labels."""
    _, code = load("toy").sample(range(count))
    valid = torch.ones(count, 1, 32, 32, dtype=torch.bool)
    return Record(code, code, torch.zeros(count, 3, 32, 32).half(), valid)


def smooth(data: Record) -> Record:
    """Pictures whose patches hardly differ from their neighbours, as in photographs."""
    return Record(F.avg_pool2d(data.code, 5, stride=1, padding=2), data.target, data.map, data.valid)


def config(**fields: object) -> FitConfig:
    return FitConfig(generator="toy", method="eva", rank=4, precision="fp32").replace(**fields)


def inputs(toy: Toy, name: str, code: Tensor) -> Float[Tensor, "n d"]:
    """What enters a layer, as rows."""
    kept = []
    layer = toy.network.get_submodule(name)
    with layer.register_forward_pre_hook(lambda _, given: kept.append(given[0])), torch.no_grad():
        toy.forward(code)
    return eva._rows(layer, kept[0])


def test_ranks_go_where_they_explain_most() -> None:
    """Six ranks over a flat, a steep and an empty layer: .6, .5, .3, .3, .2 (of b), .2 (of a, the earlier one)."""
    shares = {"a": [0.3, 0.3, 0.2, 0.2], "b": [0.6, 0.5, 0.1, 0.0], "c": [0.0, 0.0, 0.0, 0.0]}
    found = eva.allotted({name: torch.tensor(own) for name, own in shares.items()}, 6)
    assert found == {"a": 4, "b": 2, "c": 0}
    assert sum(eva.allotted({"a": torch.tensor([0.5, 0.1])}, 6).values()) == 2  # a layer has no more than there are


@pytest.mark.parametrize(("exact", "least"), [(512, 0.9999), (0, 0.99)])
def test_directions_are_the_principal_ones(monkeypatch: pytest.MonkeyPatch, exact: int, least: float) -> None:
    """They explain as much as those of a plain singular value decomposition of the centred inputs."""
    monkeypatch.setattr(eva, "EXACT", exact)
    toy, data = load("toy"), smooth(records())
    start = eva.start(toy, data, config(targets="attention+conv"))
    assert sum(map(len, start.values())) == 9 * 4 and max(map(len, start.values())) <= 8
    for name in ("blocks.0.to_q", "blocks.1.to_out.0", "conv_in"):
        rows, found = inputs(toy, name, data.code), start[name].flatten(1)
        rows = rows - rows.mean(0)
        best = torch.linalg.svdvals(rows)[: len(found)].square().sum()
        assert least < (rows @ found.mT).square().sum() / best < 1.0001
        assert_close(found @ found.mT, torch.eye(len(found)), atol=1e-5, rtol=0)
    assert len(start["conv_in"]) > 4 and start["conv_in"].shape[1:] == toy.network.conv_in.weight.shape[1:]


def test_patches_meet_the_weight_as_a_convolution_does() -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1, stride=2, bias=False)
    given = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    by_rows = eva._rows(layer, given) @ layer.weight.flatten(1).mT  # [b * n, o]
    assert_close(by_rows.unflatten(0, (2, -1)).mT.flatten(), F.conv2d(given, layer.weight, None, 2, 1).flatten())


def test_inputs_are_taken_picture_by_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums are those over the whole batch, but only one picture's patches are ever laid out."""
    layer, laid_out = nn.Conv2d(3, 5, 3, padding=1), []
    given = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    rows, plain = eva._rows(layer, given), eva._rows

    def watched(module: nn.Module, part: Tensor) -> Tensor:
        laid_out.append(len(part))
        return plain(module, part)

    monkeypatch.setattr(eva, "_rows", watched)
    seen = eva._Seen({"layer": layer}, {"layer": 27})
    for _ in range(2):
        with seen.watching():
            layer(given)
        seen.turn()
    variance, axes = torch.linalg.eigh(torch.cov(rows.double().T, correction=0))
    assert_close(seen.shares["layer"], variance.flip(0) / variance.sum(), rtol=1e-4, atol=1e-6)
    assert_close((seen.bases["layer"] * axes.flip(1).float()).sum(0).abs(), torch.ones(27), rtol=0, atol=1e-3)
    assert laid_out == [1] * 12


def test_ranks_and_directions_are_those_of_peft() -> None:
    """On linear layers; q, k and v see the same, so there only the sum of their ranks is defined."""
    toy, data = load("toy"), smooth(records())
    ours = eva.start(toy, data, config())
    settings = LoraConfig(r=4, target_modules=toy.targets["attention"], init_lora_weights="eva",
                          eva_config=EvaConfig(rho=2.0, tau=0.9999))  # fmt: skip
    batches = [{"code": data.code}]
    theirs = get_eva_state_dict(toy.network, batches, settings, forward_fn=lambda _, one: toy.forward(one["code"]),
                                prepare_model_inputs_fn=None, show_progress_bar=False,
                                prepare_layer_inputs_fn=lambda given, *_: given[0].flatten(0, -2))  # fmt: skip

    def together(found: dict[str, Tensor]) -> dict[tuple[str, bool], int]:
        ranks: Counter[tuple[str, bool]] = Counter()
        for name, down in found.items():
            ranks[name[:8], "out" in name] += len(down)  # blocks.0 or blocks.1
        return dict(ranks)

    mine, peft = together(ours), together(theirs)
    assert sum(mine.values()) == sum(peft.values()) == 32
    assert max(abs(mine[part] - peft[part]) for part in mine) <= 1
    for name in ours:
        shared = min(len(ours[name]), len(theirs[name]))
        along = (ours[name][:shared] * theirs[name][:shared]).sum(1).abs()
        assert along.min() > 0.99


def test_a_fresh_adapter_changes_nothing_and_random_weights_see_otherwise() -> None:
    toy, data = load("toy"), records()
    before = toy.forward(data.code)
    count = adapt(toy, config(), data)
    assert torch.equal(toy.forward(data.code), before)
    assert count.moving == sum(down.shape[0] * (64 + 64) for down in lora.downs(lora.state(toy.network)).values())
    drawn = load("toy")
    adapt(drawn, config(random_weights=True), data)
    pairs = [lora.downs(lora.state(network)) for network in (toy.network, drawn.network)]
    assert any(not torch.equal(pairs[0][name], pairs[1].get(name, torch.zeros(0))) for name in pairs[0])


FAMILIES = {
    "diffusion": lambda place: tiny.pipeline("1", place),
    "flow": lambda place: tiny_flow.write("sana", place),
    "gan": tiny_stylegan.write_stylegan2,
    "tokens": tiny_tokens.write_autoregressive,
}


@pytest.mark.filterwarnings("ignore:.*begins at the negative picture")  # no readout that one would fit with
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_begin_so(tmp_path: Path, family: str) -> None:
    """As many ranks as layers ask for, a start that changes nothing, and weights that a bare network takes back."""
    FAMILIES[family](tmp_path)
    generator = load(str(tmp_path))
    generator.ask("normal")
    image, code = generator.sample([0, 1])
    valid = torch.ones(2, 1, *image.shape[-2:], dtype=torch.bool)
    data = Record(code, generator.target(image), image, valid)
    asked = config(rank=2, targets="attention+conv")
    before = generator.forward(code)
    layers = len(lora.adaptable(generator.network, generator.targets[asked.targets]))
    adapt(generator, asked, data)
    assert torch.equal(generator.forward(code), before)
    weights = lora.state(generator.network)
    assert sum(map(len, lora.downs(weights).values())) == 2 * layers
    lora.detach(generator.network)
    lora.attach(generator.network, asked.adapter, generator.targets[asked.targets], start=lora.downs(weights))
    lora.load_state(generator.network, weights)


def test_a_layer_that_is_never_called_is_drawn() -> None:
    toy, data = load("toy"), records(4)
    toy.network.extra = nn.Linear(6, 2)
    start = eva.start(toy, data, config(targets=r".*\.to_q|extra"))
    assert start["extra"].shape == (4, 6) and sum(map(len, start.values())) == 3 * 4
    assert torch.equal(start["extra"], eva.start(toy, data, config(targets=r".*\.to_q|extra"))["extra"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short fit with alpha other than rank; some of its layers have other ranks than others."""
    place = tmp_path_factory.mktemp("eva")
    fields = {"generator": "toy", "data": str(world.write(place / "world", train=4, test=1)), "method": "eva"}
    fields |= {"rank": 3, "alpha": 4.5, "steps": 3, "batch": 2, "warmup": 0, "lr": 0.05, "targets": "attention+conv"}
    return fit(preset("default", **fields, checkpoint_every=1), place / "run", device="cpu")


def test_what_was_fitted_is_predicted_and_exported(run: Path, tmp_path: Path) -> None:
    weights = file.read(run)[0]
    assert len(set(map(len, lora.downs(weights).values()))) > 1
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = Predictor(run)(picture)["normal"]
    assert (expected - Predictor(run).maps(picture[None], adapted=False)["normal"][0]).abs().max() > 1e-2
    path = formats.export(run, "peft", tmp_path)
    even, settings = formats.read(path, load("toy").network)
    assert {len(down) for down in lora.downs(even).values()} == {settings.rank}
    assert_close(
        Predictor(path, intrinsics=("normal",), generator="toy")(picture)["normal"], expected, rtol=1e-4, atol=1e-5
    )


def test_it_goes_on_to_the_same_bits(run: Path, tmp_path: Path) -> None:
    half = shutil.copytree(run, tmp_path / "half")
    (half / file.FILE).unlink()  # as if it had been killed after its last update
    fit(FitConfig.read(file.read(run)[1].fit), half, resume=True, device="cpu")
    assert (half / file.FILE).read_bytes() == (run / file.FILE).read_bytes()

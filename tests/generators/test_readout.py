"""Readouts: of flows by hand, fitted to labels, and by name; those of diffusions are in test_latent_diffusion.py."""

import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.adapters import file
from ilora.config import FitConfig, Readout
from ilora.fit import fit
from ilora.generators import load
from ilora.generators.readout import TRIED, fitted, flow_coefficients, least_squares
from ilora.generators.toy import Toy
from ilora.plan import configure
from ilora.predict import Predictor
from ilora.presets import READOUTS, preset
from ilora.records import Record
from ilora.run import Run, read_json
from tests import tiny, tiny_flow, world


class Planted(Toy):
    """Its output is noise, but at time step 500 o = (x - 0.3 z) / 0.7 with x the latent's channels in reverse."""

    def paint(self, code: torch.Tensor) -> torch.Tensor:
        output = torch.randn(code.shape, generator=torch.Generator().manual_seed(self.readout.timestep))
        if self.readout.timestep == 500:
            output = (code.flip(1) - 0.3 * code) / 0.7
        return self.readout.image * code + self.readout.output * output


@pytest.fixture
def planted() -> Planted:
    return Planted(Readout(timestep=30), "cpu", torch.float32)


def labels(planted: Planted, *, batch: int = 3) -> Record:
    code = torch.randn(batch, 48, 8, 8, generator=torch.Generator().manual_seed(5))
    valid = torch.ones(batch, 1, 32, 32, dtype=torch.bool)
    return Record(code=code, target=code.flip(1), map=torch.zeros(batch, 1, 32, 32), valid=valid)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("timestep", [250, 999])
def test_a_flow_is_read_by_its_own_equation(sign: int, timestep: int) -> None:
    clean, noise, level = 0.3, -1.7, timestep / 1000
    noisy, velocity = (1 - level) * clean + level * noise, sign * (clean - noise)
    image, output = flow_coefficients(Readout(timestep=timestep, image=None, output=None), sign=sign)
    assert image * noisy + output * velocity == pytest.approx(clean)


def test_a_flow_may_be_read_in_part() -> None:
    assert flow_coefficients(Readout(), sign=-1) == (0.0, 1.0)
    assert flow_coefficients(Readout(timestep=0, image=0.0, output=None), sign=-1) == (0.0, -1.0)
    assert flow_coefficients(Readout(timestep=0, image=0.0, output=None), sign=1) == (0.0, 1.0)
    assert flow_coefficients(Readout(timestep=0, image=None, output=0.5), sign=1) == (1.0, 0.5)


def test_what_an_adapter_could_not_change_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at timestep 1 the clean latent is -0.001 of a flow's output.*flow_clean"):
        flow_coefficients(Readout(timestep=1, image=None, output=None), sign=-1)
    with pytest.raises(ValueError, match=r"timestep must be in 0..999 of a flow, got 1000"):
        flow_coefficients(Readout(timestep=1000), sign=-1)


def test_a_planted_readout_is_found(planted: Planted) -> None:
    readout, rest = fitted(planted, labels(planted), masked=True)
    assert readout == Readout(timestep=500, image=0.3, output=0.7)
    assert rest[500] == pytest.approx(0, abs=1e-9)
    assert list(rest) == list(TRIED) and all(0.9 < rest[timestep] <= 1.02 for timestep in TRIED if timestep != 500)
    assert planted.readout == Readout(timestep=30)


def test_invalid_cells_do_not_count_where_they_are_masked(planted: Planted) -> None:
    records = labels(planted)
    records.target[:, :, :, 4:] = 50.0
    records.valid[..., 16:] = False  # cells of 4 px: the right half
    assert fitted(planted, records, masked=True)[0] == Readout(timestep=500, image=0.3, output=0.7)
    assert fitted(planted, records, masked=False)[0] != Readout(timestep=500, image=0.3, output=0.7)
    records.valid[:] = False
    with pytest.raises(ValueError, match="labels with valid cells, got none"):
        fitted(planted, records, masked=True)


def test_two_weights_are_those_of_least_squares() -> None:
    z, o, x = torch.randn(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x + 0.5 * z - 2 * o
    expected = torch.linalg.lstsq(torch.stack([z, o], 1), x[:, None]).solution[:, 0]
    columns = torch.stack([z, o, x])
    image, output, rest = least_squares(columns @ columns.T)
    assert_close(torch.tensor([image, output], dtype=torch.float64), expected)
    assert rest == pytest.approx(((image * z + output * o - x).square().sum() / x.square().sum()).item())


def test_an_output_that_says_nothing_still_counts_a_little() -> None:
    """z and o at right angles, x = 3 z: the best weight of o is 0, and no adapter could act through it."""
    z, o = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 2.0]).double()
    columns = torch.stack([z, o, 3 * z])
    image, output, rest = least_squares(columns @ columns.T)
    assert (image, output) == (pytest.approx(3), pytest.approx(0.1 * 3 / 2))
    assert rest == pytest.approx(0.1**2)


def test_an_output_that_repeats_the_latent_shares_its_weight() -> None:
    z = torch.tensor([1.0, -2.0]).double()
    columns = torch.stack([z, z, 3 * z])
    image, output, rest = least_squares(columns @ columns.T)
    assert (image, output) == (pytest.approx(1.5), pytest.approx(1.5))
    assert rest == pytest.approx(0, abs=1e-12) and math.isfinite(image)


def test_readouts_have_names(tmp_path: Path) -> None:
    readouts = {name: preset("default", readout=name).readout for name in READOUTS if name != "auto"}
    assert readouts == {
        "paper": Readout(timestep=999, image=0.0, output=1.0),
        "native": Readout(timestep=999, image=None, output=None),
        "flow_clean": Readout(timestep=1, image=0.0, output=None),
    }
    assert preset("default", readout="auto").readout_auto and not preset("default").readout_auto
    assert preset("default", readout="native", timestep=500).readout == Readout(timestep=500, image=None, output=None)
    assert configure(tmp_path, {"readout": "native"}).readout == readouts["native"]
    with pytest.raises(ValueError, match="readout must be one of paper, native, flow_clean, auto, got 'best'"):
        preset("default", readout="best")


def test_a_network_without_time_steps_has_no_readout(tmp_path: Path) -> None:
    config = preset("default", generator="toy", data=str(world.write(tmp_path / "world", train=2)), readout="auto")
    with pytest.raises(ValueError, match="readout auto needs a network with time steps, got toy"):
        fit(config, tmp_path / "run", device="cpu")


@pytest.mark.parametrize("family", ["1", "z-image"])
def test_fitted_numbers_end_in_the_run(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny.pipeline if family == "1" else tiny_flow.write)(family, tmp_path / "generator")
    fields = {"generator": str(tmp_path / "generator"), "data": str(world.write(tmp_path / "world", train=2, test=1))}
    config = preset("default", **fields, readout="auto", steps=2, batch=2, rank=2, intrinsic="depth", lr=1e-3)
    run = Run(fit(config, tmp_path / "run", device="cpu"))
    told = capsys.readouterr()
    kept = FitConfig.read(read_json(run.config))
    assert not kept.readout_auto and kept.timestep in TRIED
    assert f"readout from 2 labels: timestep {kept.timestep}, x = {kept.readout_image:g} z" in told.out + told.err
    assert file.read(run.adapter)[1].readout == kept.readout
    assert fit(configure(run.path, {"readout": "auto"}, resume=True), run.path, resume=True, device="cpu") == run.path
    depth = Predictor(run.path, device="cpu")(torch.zeros(3, 20, 24))["depth"]
    assert depth.shape == (1, 20, 24) and depth.isfinite().all()
    assert load(kept.generator).readout == Readout()  # a prediction takes it from the adapter's header

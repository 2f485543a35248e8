"""Picture = albedo * shading as a loss without labels: on whom it pulls, where it looks, and that it binds."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora import tie
from ilora.config import FitConfig, Readout
from ilora.fit import fit
from ilora.intrinsics import intrinsic
from ilora.ops import color
from ilora.predict import Predictor
from ilora.presets import preset
from ilora.records import Image
from ilora.team import Team
from tests import spoken, world


class Split(spoken.Spoken):
    """Paints its code, plus one grey where it is asked for albedo and another where for shading."""

    def __init__(self, albedo: float, shading: float) -> None:
        super().__init__(device="cpu", dtype=torch.float32, readout=Readout())
        self.network = torch.nn.Linear(2, 1, bias=False)
        self.network.weight.data = torch.tensor([[albedo, shading]])

    def ask(self, prompt: str) -> None:
        """Which of the two."""
        self.place = int(prompt == intrinsic(tie.FACTORS[1]).prompt)

    def forward(self, code: torch.Tensor) -> Image:
        """The same grey everywhere."""
        return code + self.network.weight[0, self.place]


def test_it_pulls_on_albedo_and_shading_alike() -> None:
    """Bent codes of a ramp: no exposure makes their product a ramp again."""
    ramp = torch.linspace(-0.8, 0.8, 16).reshape(1, 1, 1, 16).expand(1, 3, 4, 16)
    painter, light = Split(0.0, -0.1), color.to_linear((ramp + 1) / 2)
    found = tie.apart(painter, ramp, ramp)
    a, s = light, color.to_linear((ramp - 0.1 + 1) / 2)
    ratio = (light + 0.02).log() - (a * s + 0.02).log()
    assert_close(found, (ratio - ratio.flatten().quantile(0.5)).abs().mean()[None])
    found.sum().backward()
    assert (painter.network.weight.grad.abs() > 1e-3).all()


def test_it_looks_where_light_is_known() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    shading = torch.tensor([0.5, 0.5, 0.5, 1.0]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert tie.known(image, shading).flatten().tolist() == [True, True, False, False]


def config(folder: Path, **changes: object) -> FitConfig:
    fields = {"generator": spoken.NAME, "data": str(folder), "intrinsic": "albedo,shading", "labels": 1, "steps": 30}
    fields |= {"batch": 4, "lr": 1e-2, "warmup": 1, "image_share": 0.0, "targets": "all", "mirror": False}
    return preset("default", **fields | changes)


def test_it_binds_pictures_without_labels(tmp_path: Path) -> None:
    """Of six pictures one has its maps learned; with the tie the product comes closer to the other five."""
    folder, rest = world.write(tmp_path / "world", train=6, test=1, square=True), {}
    for weight in (0.0, 1.0):
        out = fit(config(folder, tie=weight), tmp_path / f"run-{weight:g}", device="cpu")
        own = Predictor(out, generator=spoken.NAME, device="cpu")
        pictures = tie.prepared(own.generator, config(folder)).pictures.float()
        assert len(pictures) == 6
        maps, light = own.paint(pictures), color.to_linear((pictures + 1) / 2)
        every = tie.known(pictures, maps["shading"])
        rest[weight] = tie.losses.composed(maps["albedo"], maps["shading"], light, every).mean()
    assert rest[1.0] < 0.7 * rest[0.0]


def test_its_gradient_does_not_depend_on_the_cut(tmp_path: Path) -> None:
    folder = world.write(tmp_path / "world", train=4, test=1, square=True)
    grads = []
    for accumulate in (1, 4):
        fields = config(folder, tie=0.5, accumulate=accumulate)
        generator = spoken.Spoken(device="cpu", dtype=torch.float32, readout=Readout())
        weight = generator.network.proj_out.weight.requires_grad_(True)
        held = tie.prepared(generator, fields)
        assert held.count == 2
        value = tie.gradient(generator, held, 3, config=fields, team=Team("cpu"))
        assert not value.requires_grad and value > 0
        grads.append(weight.grad.clone())
    assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-6)
    assert grads[0].abs().max() > 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="tie holds albedo times shading to the picture, got albedo"):
        tie.check(FitConfig(intrinsic="albedo", tie=0.1))
    with pytest.raises(ValueError, match="tie needs paint = single, got augmented, 25 passes a picture"):
        tie.check(FitConfig(intrinsic="all", tie=0.1, paint="augmented"))
    tie.check(FitConfig(intrinsic="all", tie=0.1))
    for field in ({"reconstruction": 1.0}, {"reconstruction": -0.1}, {"tie": -1.0}):
        with pytest.raises(ValueError, match="must be in"):
            FitConfig(**field)

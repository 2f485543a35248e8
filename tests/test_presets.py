"""Presets: the published recipe, field by field, and what may be changed in one."""

import pytest

from ilora.config import Readout
from ilora.presets import PRESETS, learning_rate, preset


def test_paper_is_the_published_recipe() -> None:
    config = preset("paper")
    assert config.readout == Readout(timestep=999, image=0.0, output=1.0)  # the output is the target's latent
    assert (config.lr, config.schedule, config.warmup, config.weight_decay) == (1e-4, "constant", 0, 1e-2)
    assert (config.batch, config.steps, config.clip, config.ema) == (4, 20_000, None, 0.0)
    assert (config.masked, config.mirror, config.image_share, config.precision) == (False, False, 0.0, "fp32")
    assert (config.method, config.targets, config.alpha) == ("lora", "attention", None)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_names_itself_and_yields_to_what_is_given(name: str) -> None:
    config = preset(name, rank=2, steps=7, intrinsic="shading")
    assert (config.preset, config.rank, config.steps, config.intrinsic) == (name, 2, 7, "shading")
    others = {field: value for field, value in PRESETS[name].fields.items() if field != "steps"}
    assert {field: getattr(config, field) for field in others} == others


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected a preset among paper, default, augmented, got 'fast'"):
        preset("fast")


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'rank'"):
        preset("paper", ranks=3)


def test_learning_rate_by_hand() -> None:
    open_ = preset("default", lr=None)
    assert learning_rate(open_, 6_000_000) == pytest.approx(5e-3)
    assert learning_rate(open_, 24_000_000) == pytest.approx(2.5e-3)  # four times the weights, half the rate
    assert learning_rate(open_.replace(method="scratch"), 6_000_000) == pytest.approx(1e-3)
    assert learning_rate(preset("paper"), 6_000_000) == 1e-4

"""Configurations: round trip, refusal of what is unknown, of the wrong kind, out of range."""

import json
from dataclasses import dataclass, field

import pytest

from ilora.config import AdapterConfig, Configuration, FitConfig, Readout, parse, unparse


@dataclass(frozen=True, kw_only=True)
class Nested(Configuration):
    readout: Readout = field(default_factory=Readout)
    widths: tuple[int, ...] = (1, 2)


def test_round_trip_through_json() -> None:
    config = FitConfig(rank=2, clip=None, lr=3e-4, intrinsic="depth")
    assert FitConfig.read(json.loads(json.dumps(config.write()))) == config


def test_nested_parts_and_tuples_come_back_from_json() -> None:
    config = Nested(readout=Readout(timestep=1), widths=(3,))
    assert Nested.read(json.loads(json.dumps(config.write()))) == config


@pytest.mark.parametrize(("typo", "meant"), [("rnak", "rank"), ("steps_", "steps"), ("learning_rate", "known: ")])
def test_an_unknown_field_names_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"FitConfig has no option '{typo}'.*{meant}"):
        FitConfig.read({typo: 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 8.0),
        ("rank", True),
        ("rank", "8"),
        ("mirror", 1),
        ("lr", "1e-4"),
        ("generator", 3),
        ("clip", "none"),
        ("seed", None),
    ],
)
def test_a_value_of_another_kind_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"FitConfig.{field} must be .*, got {value!r}"):
        FitConfig.read({field: value})


def test_whole_numbers_are_taken_where_a_fraction_may_stand() -> None:
    assert FitConfig(lr=1, clip=2, alpha=8).write()["lr"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("steps", 0),
        ("labels", 0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("ema", 1.5),
        ("seed", -1),
        ("timestep", 1000),
    ],
)
def test_a_value_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be in \[.*\], got {value}"):
        FitConfig.read({field: value})


@pytest.mark.parametrize("field", ["method", "schedule", "precision"])
def test_an_unknown_word_is_answered_with_the_known_ones(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be one of .*, .*, got 'odd'"):
        FitConfig.read({field: "odd"})


def test_a_batch_cannot_be_split_into_more_parts_than_images() -> None:
    with pytest.raises(ValueError, match="accumulate must be at most batch = 2"):
        FitConfig(batch=2, accumulate=3)


def test_the_parts_of_a_fit_config() -> None:
    config = FitConfig(
        method="dora", rank=2, alpha=4.0, targets="a|b", timestep=1, readout_image=None, readout_output=None
    )
    assert config.adapter == AdapterConfig(method="dora", rank=2, alpha=4.0, targets="a|b")
    assert config.readout == Readout(timestep=1, image=None, output=None)


def test_replace_keeps_the_rest_and_the_original() -> None:
    config = FitConfig(rank=2)
    assert config.replace(seed=3) == FitConfig(rank=2, seed=3)
    assert config.seed == 0


def test_words_of_the_command_line_become_values() -> None:
    words = ["lr=3e-4", "mirror=false", "clip=null", "schedule=constant", "image-share=0.5", "steps=20"]
    values = {"lr": 3e-4, "mirror": False, "clip": None, "schedule": "constant", "image_share": 0.5, "steps": 20}
    assert parse(words) == values


def test_fields_become_words_that_are_read_as_they_were() -> None:
    values = {"masked": False, "clip": None, "lr": 3e-4, "steps": 20, "schedule": "constant", "targets": "a=b|c"}
    assert unparse(values)[:3] == ["masked=false", "clip=null", "lr=0.0003"]
    assert parse(unparse(values)) == values
    numbers = {"targets": "16", "data": "null", "preset": "true", "generator": '"quoted"', "intrinsic": ""}
    assert parse(unparse(numbers)) == numbers  # words all the same


def test_a_word_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="expected NAME=VALUE, got 'lr'"):
        parse(["lr"])

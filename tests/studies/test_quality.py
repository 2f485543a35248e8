"""Checkpoints and their quality: what is found on the disk, what is measured, and the correlation."""

import json
from pathlib import Path

import pytest

from ilora.evaluation import Evaluation
from ilora.studies.cost import Clock
from ilora.studies.plan import Ask, StudyConfig
from ilora.studies.quality import Quality, checkpoints, quality
from tests import world
from tests.studies.test_cells import cells, made


def asked(tmp_path: Path, *paths: Path) -> Ask:
    config = StudyConfig(checkpoints=tuple(map(str, paths)), generators=("toy",), intrinsics=("normal",))
    return Ask(config.resolved(), tmp_path / "out", Clock(None), dry_run=True)


def ladder(folder: Path, distances: dict[str, float]) -> Path:
    """A training's folder with rungs and their quality."""
    for name, far in distances.items():
        (folder / "ladder" / name).mkdir(parents=True)
        (folder / "ladder" / f"{name}.json").write_text(
            json.dumps({"images": int(name), "frechet": far, "kernel": 1.0})
        )
    return folder


def test_a_training_stands_for_its_ladder(tmp_path: Path) -> None:
    training = ladder(tmp_path / "nano", {"0200": 2.0, "0100": 5.0})
    alone = tmp_path / "mine" / "step9"
    alone.mkdir(parents=True)
    found = [(one.family, one.label) for one in checkpoints(asked(tmp_path, training, alone))]
    assert found == [("nano", "0100"), ("nano", "0200"), ("mine", "step9")]
    grid = Quality().points(asked(tmp_path, training, alone))
    assert [(point.series, point.at, point.fit.generator) for point in grid][1] == (
        "nano", "0200", str(training / "ladder" / "0200"))  # fmt: skip


def test_a_mode_after_the_at_goes_to_every_rung_and_not_into_its_quality(tmp_path: Path) -> None:
    training = ladder(tmp_path / "tokens", {"1": 2.0})
    (one,) = checkpoints(asked(tmp_path, f"{training}@readout"))
    rung = training / "ladder" / "1"
    assert (one.path, one.family, one.label) == (f"{rung}@readout", "tokens@readout", "1")
    (cell,) = cells([made([1.0], generator=one.path)])
    assert quality(cell, asked(tmp_path)) == {"frechet": 2.0, "kernel": 1.0}
    (alone,) = checkpoints(asked(tmp_path, "rooms-ar@readout"))
    assert (alone.path, alone.family, alone.label) == ("rooms-ar@readout", "rooms-ar@readout", "rooms-ar")


def test_quality_correlates_as_by_hand(tmp_path: Path) -> None:
    """Distances 5, 3, 2, 1 and errors 40, 20, 30, 10: ranks differ by 0, 1, 1, 0, so rho = 1 - 6 * 2 / 60 = 0.8."""
    training = ladder(tmp_path / "nano", {"1": 5.0, "2": 3.0, "3": 2.0, "4": 1.0})
    outcomes = [
        made([error, error], series="nano", at=name, generator=str(training / "ladder" / name))
        for name, error in {"1": 40.0, "2": 20.0, "3": 30.0, "4": 10.0}.items()
    ]
    answer = Quality().answer(asked(tmp_path, training), cells(outcomes))
    rho = answer.findings["normal frechet all"]
    assert rho["value"] == pytest.approx(-0.8) and rho["count"] == 4 and rho["low"] <= rho["value"] <= rho["high"]
    assert answer.findings["normal frechet nano"]["value"] == pytest.approx(-0.8)
    assert answer.findings["normal kernel all"]["value"] is None  # constant: no correlation
    assert "rho -0.80" in answer.verdict and "over 4 checkpoints, too few to say." in answer.verdict
    assert answer.table.header[3:5] == ("Fréchet distance", "kernel distance")
    assert answer.table.rows[0][:5] == ("normal", "nano", "1", "5.00", "1.00")


def test_families_are_pooled_where_their_distances_compare(tmp_path: Path) -> None:
    """Two trainings of three: Fréchet distances of all six are one list, their sliced Wasserstein distances are not."""
    outcomes, trainings = [], []
    for family, start in (("nano", 0), ("tokens", 3)):
        trainings.append(ladder(tmp_path / family, {str(rung): float(rung) for rung in range(start, start + 3)}))
        for rung in range(start, start + 3):
            beside = trainings[-1] / "ladder" / f"{rung}.json"
            beside.write_text(json.dumps({"frechet": 9.0 - rung, "sliced_wasserstein": 9.0 - rung}))
            place = str(beside.with_suffix(""))
            outcomes.append(made([1.0 + rung] * 2, series=family, at=str(rung), generator=place))
    answer = Quality().answer(asked(tmp_path, *trainings), cells(outcomes))
    assert answer.findings["normal frechet all"]["value"] == 1.0
    assert "normal sliced_wasserstein all" not in answer.findings
    assert answer.findings["normal sliced_wasserstein tokens"]["count"] == 3
    assert "normal and Fréchet distance: rho 1.00 [1.00, 1.00] over 6 checkpoints, clear of 0." in answer.verdict
    assert "sliced Wasserstein of nano: rho 1.00 [1.00, 1.00] over 3 checkpoints, too few to say." in answer.verdict
    one = Quality().answer(asked(tmp_path, trainings[0]), cells(outcomes[:3]))
    assert one.findings["normal sliced_wasserstein all"]["count"] == 3


def test_the_card_of_an_embedded_generator_is_read(tmp_path: Path) -> None:
    (cell,) = cells([made([1.0], generator="rooms-diffusion")])
    found = quality(cell, asked(tmp_path))
    assert set(found) == {"frechet", "kernel", "sliced_wasserstein"} and found["frechet"] > 0


def test_distances_in_the_features_of_another_encoder_are_left_out(tmp_path: Path) -> None:
    rung = ladder(tmp_path / "old", {"1": 2.0}) / "ladder" / "1"
    rung.with_suffix(".json").write_text('{"frechet": 2.0, "kernel": 1.0, "sliced_wasserstein": 3.0, "encoder": 1}')
    (cell,) = cells([made([1.0], generator=str(rung))])
    assert quality(cell, asked(tmp_path)) == {"sliced_wasserstein": 3.0}


def test_quality_that_nobody_measured_is_measured_once(tmp_path: Path) -> None:
    data = world.write(tmp_path / "world", train=4, test=1)
    (cell,) = cells([made([1.0], data=str(data))])
    first = quality(cell, asked(tmp_path))
    (kept,) = (tmp_path / "out" / "quality").iterdir()
    assert first == json.loads(kept.read_text()) and first["sliced_wasserstein"] > 0
    kept.write_text('{"sliced_wasserstein": 7.0, "images": 3}')
    assert quality(cell, asked(tmp_path)) == {"sliced_wasserstein": 7.0}
    other = world.write(tmp_path / "other", train=3, test=1)
    (cell,) = cells([made([1.0], data=str(other))])
    assert quality(cell, asked(tmp_path))["sliced_wasserstein"] != 7.0  # from other pictures
    assert len(list(kept.parent.iterdir())) == 2


def test_failed_checkpoints_say_nothing(tmp_path: Path) -> None:
    training = ladder(tmp_path / "nano", {"1": 5.0})
    one = made([1.0], series="nano", generator=str(training / "ladder" / "1"))
    assert isinstance(one.evaluation, Evaluation)
    nothing = type(one)(one.point, one.work, None, float("nan"), 0, 0, "ValueError: no")
    assert Quality().answer(asked(tmp_path, training), cells([nothing])).verdict == "Not measured."

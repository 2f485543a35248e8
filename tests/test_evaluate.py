import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora import images
from ilora.comparison import compare
from ilora.config import FitConfig
from ilora.data import dataset
from ilora.evaluate import EvaluateConfig, Evaluation, evaluate, evaluate_each, ratio_of, show, through_codec
from ilora.fit import fit
from ilora.generators import load
from ilora.intrinsics import NAMES, intrinsic
from ilora.ops import color
from ilora.predict import Predictor
from ilora.presets import preset
from ilora.run import Run
from ilora.tensors import read
from tests import world
from tests.data.benchmarks import test_iiw, test_sintel

NAN = float("nan")
QUICK = EvaluateConfig(device="cpu", resamples=200)


def small(folder: Path, **changes: object) -> FitConfig:
    """Sixty updates on the toy."""
    fields = {"generator": "toy", "data": str(folder), "targets": "all", "steps": 60, "lr": 1e-2, "image_share": 0.0}
    return preset("default", **fields | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(small(folder), tmp_path_factory.mktemp("runs") / "run", device="cpu")


@pytest.fixture(scope="module")
def evaluation(run: Path, folder: Path) -> Evaluation:
    place = run.parent
    return evaluate(run, str(folder), json=place / "rows.json", html=place / "page.html", config=QUICK)


def made(
    first: list[float], second: list[float], *, seed: int = 0, rank: int = 8, protocol: str = "rooms"
) -> Evaluation:
    """An evaluation with these errors of the adapter and of one baseline."""
    errors = {
        name: {"other": torch.ones(len(values)).double(), "error": torch.tensor(values).double()}
        for name, values in {"adapter": first, "mean_map": second}.items()
    }
    about = {
        "name": protocol,
        "intrinsic": "normal",
        "generator": "toy",
        "data": "x",
        "split": "test",
        "fit": {"seed": seed, "rank": rank},
    }
    return Evaluation(tuple("abcdefgh"[: len(first)]), errors, "error", about, ("a note",), resamples=500)


def test_summaries_and_ratios_by_hand():
    one = made([1.0, 2.0, NAN, 6.0], [2.0, 4.0, 1.0, 12.0])
    assert one.metrics == ("error", "other") and one.baselines == ("mean_map",)
    assert (one.summary("adapter").mean, one.summary("adapter").median, one.summary("adapter").count) == (3.0, 2.0, 3)
    assert_close(torch.tensor(dataclasses.astuple(one.ratio("mean_map"))[:3]), torch.full((3,), 0.5))
    assert one.order() == [0, 1, 3]


def test_files_hold_everything_and_come_back(tmp_path):
    one = made([1.0, NAN, 3.0], [4.0, 5.0, float("inf")])
    one.save(tmp_path / "rows.json")
    values = json.loads((tmp_path / "rows.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert values["metrics"]["error"]["mean"] == 2.0 and values["baselines"]["mean_map"]["error"]["mean"] is None
    assert values["images"] == [
        {"name": "a", "error": 1.0, "other": 1.0},
        {"name": "b", "error": None, "other": 1.0},
        {"name": "c", "error": 3.0, "other": 1.0},
    ]
    back = Evaluation.read(tmp_path / "rows.json")
    assert (back.names, back.protocol, back.notes, back.primary) == (one.names, one.protocol, one.notes, one.primary)
    assert_close(back.errors["adapter"], one.errors["adapter"], equal_nan=True)
    table = (tmp_path / "rows.csv").read_text().splitlines()
    assert table[0] == "method,name,error,other" and table[2] == "adapter,b,,1.0" and len(table) == 7
    none = json.dumps({**values, "images": []})
    for content, told in (('{"a": 1}', "got the keys a"), ("[]", "got a list"), (none, "with images, got the keys")):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ValueError, match=told):
            Evaluation.read(tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"file of results must exist, got .*row\.json; did you mean 'rows\.json'"):
        Evaluation.read(tmp_path / "row.json")
    (tmp_path / "no.json").write_text("title: ilora")
    with pytest.raises(ValueError, match="must come from ilora evaluate --json, got no JSON"):
        Evaluation.read(tmp_path / "no.json")


def test_names_of_files_are_refused_before_any_work():
    for file, words in (
        ("table", r"must end in \.md or \.tex"),
        ("json", r"CSV is written beside .* end it in \.json"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate("nowhere", **{file: "rows.csv"})
        with pytest.raises(ValueError, match=words):
            evaluate_each("nowhere", **{file: "rows.csv"})
    with pytest.raises(ValueError, match=r"got rows for the latter"):  # of several intrinsics the CSVs would be one
        evaluate_each("nowhere", json="rows")


def test_a_ratio_needs_as_many_runs_on_either_side():
    with pytest.raises(ValueError, match="got 1 and 2"):
        ratio_of([made([1.0], [1.0])], [made([1.0], [1.0]), made([1.0], [1.0])])


def test_a_result_without_a_protocol_is_none():
    one = made([1.0], [2.0])
    for protocol in ({}, {"intrinsic": "normal"}, one.protocol | {"name": ""}):
        with pytest.raises(ValueError, match="must name their protocol"):
            dataclasses.replace(one, protocol=protocol)


def test_a_file_older_than_the_names_was_measured_under_rooms(tmp_path):
    made([1.0, 3.0], [2.0, 2.0]).save(tmp_path / "rows.json")
    values = json.loads((tmp_path / "rows.json").read_text())
    assert values["protocol"].pop("name") == "rooms"
    (tmp_path / "rows.json").write_text(json.dumps(values))
    back = Evaluation.read(tmp_path / "rows.json")
    assert back.protocol["name"] == "rooms" and back.summary("adapter").mean == 2.0


def test_different_protocols_are_not_compared():
    one, other = made([1.0], [1.0]), made([1.0], [1.0], seed=1, protocol="marigold-normals")
    with pytest.raises(ValueError, match="got marigold-normals and rooms; evaluate all under one"):
        compare([one, other])
    with pytest.raises(ValueError, match="got marigold-normals and rooms"):
        ratio_of([one], [other])
    assert compare([other])[0].seeds == (1,)


def test_under_a_pooled_protocol_pixels_vote(run, folder, tmp_path, capsys):
    path = tmp_path / "pooled.json"
    one = evaluate(run, str(folder), protocol="dsine-nyu", json=path, html=tmp_path / "page.html", config=QUICK)
    values, back = json.loads(path.read_text()), Evaluation.read(path)
    rows = values["images"]
    pixels, angles = (torch.tensor([row[name] for row in rows]).double() for name in ("pixels", "mean_angle"))
    assert sorted(set(pixels.tolist())) == [28 * 36, 32 * 40]  # the upright and the lying pictures
    wanted = ((pixels * angles).sum() / pixels.sum()).item()
    assert values["metrics"]["mean_angle"]["mean"] == pytest.approx(wanted)
    assert values["per_image"]["adapter"]["mean_angle"]["mean"] == pytest.approx(angles.mean().item())
    assert values["protocol"]["name"] == "dsine-nyu" and "pooled over the pixels" in values["protocol"]["aggregation"]
    for method in one.errors:
        assert back.summary(method, "median_angle") == one.summary(method, "median_angle")
        assert back.by_image(method) == one.by_image(method)
    means = torch.tensor([row["mean_angle"] for row in values["baseline_images"]["mean_map"]]).double()
    assert one.ratio("mean_map").value == pytest.approx(((pixels * angles).sum() / (pixels * means).sum()).item())
    squares, others = (x["rmse_angle"].square() @ pixels for x in (one.errors["adapter"], one.errors["mean_map"]))
    assert one.ratio("mean_map", "rmse_angle").value == pytest.approx((squares / others).sqrt().item())
    with pytest.raises(ValueError, match="got 'median_angle'"):
        one.ratio("mean_map", "median_angle")
    assert compare([back])[0].summary("adapter").mean == pytest.approx(wanted)
    assert path.with_suffix(".csv").read_text().startswith("method,name,pixels,mean_angle")
    show(one)
    assert (
        "dsine-nyu" in capsys.readouterr().out
        and "angle, degrees, as dsine-nyu aligns" in (tmp_path / "page.html").read_text()
    )


def test_a_protocol_that_judges_something_else_is_refused(run, folder):
    with pytest.raises(ValueError, match="marigold-nyu judges depth and disparity, got 'normal'"):
        evaluate(run, str(folder), protocol="marigold-nyu", config=QUICK)
    with pytest.raises(ValueError, match="did you mean 'dsine-nyu'"):
        evaluate(run, str(folder), protocol="dsine", config=QUICK)


def test_every_method_is_measured_as_by_hand(evaluation, run, folder):
    examples, kind, predictor, toy = (
        dataset(str(folder), intrinsic="normal", split="test"),
        intrinsic("normal"),
        Predictor(run, device="cpu"),
        load("toy"),
    )
    other = Predictor(run / "controls" / "random-weights", device="cpu")
    mean = read(Run(run).mean)[0]["mean"][None]
    assert evaluation.names == tuple(examples.names) == tuple(f"test{index}" for index in range(5))
    for place in range(len(examples)):
        example = examples[place]
        image, map, valid = example.image[None], example.map[None], example.valid[None]
        by_hand = {
            "adapter": predictor(example.image)["normal"][None],
            "codec_ceiling": through_codec(toy, kind, map, valid),
            "random_weights": other(example.image)["normal"][None],
            "mean_map": kind.resize(mean, *map.shape[-2:]),
            "untouched": predictor.maps(image, adapted=False)["normal"],
            "identity": kind.from_image(image),
        }
        assert list(by_hand) == list(evaluation.errors)
        for method, painted in by_hand.items():
            expected = kind.metrics(painted, map, valid)
            assert set(expected) == set(evaluation.metrics)
            for metric, value in expected.items():
                assert_close(evaluation.errors[method][metric][place], value[0].double(), atol=1e-3, rtol=1e-3)


def test_what_the_toy_knows_shows(evaluation):
    means = {method: evaluation.summary(method).mean for method in evaluation.errors}
    assert means["codec_ceiling"] < 2 < means["adapter"] < 0.75 * means["mean_map"] < means["untouched"]
    assert evaluation.summary("adapter").low <= means["adapter"] <= evaluation.summary("adapter").high


def test_the_json_has_the_promised_form(evaluation, run):
    values = json.loads((run.parent / "rows.json").read_text())
    assert {"mean", "median", "low", "high"} <= values["metrics"]["mean_angle"].keys()
    assert set(values["baselines"]) == {"codec_ceiling", "random_weights", "mean_map", "untouched", "identity"}
    assert {"mean", "low", "high"} <= values["baselines"]["random_weights"]["mean_angle"].keys()
    assert [row["name"] for row in values["images"]] == list(evaluation.names)
    assert values["protocol"]["fit"]["generator"] == "toy" and values["protocol"]["split"] == "test"
    assert values["ratios"]["mean_map"]["value"] == evaluation.ratio("mean_map").value


def test_the_control_is_fitted_once(evaluation, run, folder, capsys):
    adapter = Run(run).control("random-weights").adapter
    before = adapter.stat().st_mtime_ns
    again = evaluate(run, str(folder), config=QUICK.replace(images=2))
    assert adapter.stat().st_mtime_ns == before
    assert again.names == evaluation.names[:2]
    for method, errors in again.errors.items():
        assert_close(errors["mean_angle"], evaluation.errors[method]["mean_angle"][:2], atol=1e-3, rtol=1e-3)


def test_what_is_left_out_is_said(run, folder, tmp_path, capsys):
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes(Run(run).adapter.read_bytes())
    one = evaluate(bare, str(folder), config=QUICK)
    assert list(one.errors) == ["adapter", "codec_ceiling", "untouched", "identity"]
    assert "no run folder" in one.notes[0]
    control = evaluate(Run(run).control("random-weights").path, str(folder), config=QUICK)
    assert "random_weights" not in control.errors and "is a control itself" in control.notes[0]
    alone = fit(small(folder, steps=2), tmp_path / "alone", device="cpu")
    quick = evaluate(alone, str(folder), config=QUICK.replace(controls=False))
    assert "random_weights" not in quick.errors and "left out, as asked" in quick.notes[0]
    show(quick)
    assert "left out, as asked" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in NAMES if name != "normal"])
def test_every_intrinsic_is_evaluated(name, folder, tmp_path, capsys):
    out = fit(small(folder, intrinsic=name, steps=2, image_share=0.5), tmp_path / "run", device="cpu")
    one = evaluate(out, str(folder), html=tmp_path / "page.html", config=QUICK.replace(controls=False, mirror=True))
    assert one.primary == intrinsic(name).primary
    assert one.summary("codec_ceiling").mean < 0.3 * one.summary("mean_map").mean or name == "albedo"
    assert f"{name} from toy" in (tmp_path / "page.html").read_text()


def test_albedo_is_judged_by_people(folder, tmp_path):
    out = fit(small(folder, intrinsic="albedo", steps=2), tmp_path / "run", device="cpu")
    test_iiw.write(tmp_path / "iiw", 5, 6, 7, 8, 9, 10)
    quick = QUICK.replace(controls=False)
    with pytest.warns(UserWarning, match="judgements and no maps"):
        one = evaluate(out, f"iiw:{tmp_path / 'iiw'}", protocol="iiw", html=tmp_path / "page.html", config=quick)
    assert one.primary == "whdr" and sorted(one.names) == ["10", "5"] and "codec_ceiling" not in one.errors
    # Of the picture itself, as by hand: three answers with the weights .5, 1.25 and .75.
    picture = images.read(tmp_path / "iiw/data/5.png")
    light = color.to_linear((picture + 1) / 2).mean(0)
    a, b, c = (light[row, column].item() for row, column in ((0, 0), (12, 40), (47, 79)))
    wrong = 0.5 * (not b > 1.1 * a) + 1.25 * (max(b, c) > 1.1 * min(b, c)) + 0.75 * (not c > 1.1 * a)
    assert one.errors["identity"]["whdr"][one.names.index("5")].item() == pytest.approx(100 * wrong / 2.5)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="need a protocol that reads them, got rooms"):
        evaluate(out, f"iiw:{tmp_path / 'iiw'}", config=QUICK)
    with pytest.raises(ValueError, match="needs people's judgements, got a true map"):
        evaluate(out, str(folder), protocol="iiw", config=QUICK)
    assert not (out / "controls").exists()  # refused before the control was fitted


def test_an_example_that_cannot_be_read_is_an_error_or_a_row_without_a_number(folder, tmp_path):
    depth = fit(small(folder, steps=2, intrinsic="depth"), tmp_path / "run", device="cpu")
    for number in (1, 2, 3):
        test_sintel.write(tmp_path / "sintel", "alley_2", f"frame_000{number}")
    broken = tmp_path / "sintel/training/depth/alley_2/frame_0002.dpt"
    broken.write_bytes(b"no tag at all")
    quick, data = QUICK.replace(controls=False), f"sintel:{tmp_path / 'sintel'}"
    with pytest.raises(ValueError, match=r"frame_0002\.dpt must begin with the tag"):
        evaluate(depth, data, protocol="marigold-diode", config=quick)
    skip = quick.replace(on_problem="skip")
    one = evaluate(depth, data, protocol="marigold-diode", html=tmp_path / "page.html", config=skip)
    assert one.notes[-2] == "images without a number: 1" and "frame_0002.dpt must begin with the tag" in one.notes[-1]
    assert one.errors["adapter"]["abs_rel"].isnan().tolist() == [False, True, False]
    assert one.summary("adapter").count == 2 and "alley_2-frame_0003" in (tmp_path / "page.html").read_text()
    for number in (1, 3):
        (broken.parent / f"frame_000{number}.dpt").write_bytes(b"no tag at all")
    with pytest.raises(ValueError, match=r"frame_0003\.dpt must begin"):  # nothing is left
        evaluate(depth, data, protocol="marigold-diode", config=skip)


def test_what_evaluate_refuses(run, folder):
    with pytest.raises(ValueError, match="images must be"):
        evaluate(run, str(folder), config=QUICK.replace(images=-1))
    with pytest.raises(ValueError, match="test"):
        evaluate(run, str(folder), split="tset", config=QUICK)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate("nowhere", str(folder), config=QUICK)

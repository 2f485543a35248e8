"""The loop: what it computes, that it learns, and that a killed fit ends with the same bits."""

import json
import math
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from ilora.adapters import file, lora
from ilora.cli import main
from ilora.config import FitConfig
from ilora.data import dataset
from ilora.data.base import select
from ilora.data.transforms import square
from ilora.fit import control, fit, rate
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.plan import after, configure
from ilora.predictor import Predictor
from ilora.presets import preset
from ilora.run import Run, read_json, write_json
from ilora.tensors import read
from tests import world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight labelled pictures, and two more to validate."""
    place = world.write(tmp_path_factory.mktemp("world"), train=8, test=2)
    meta = place / "meta.toml"
    meta.write_text(meta.read_text().replace("test =", "validation ="))
    return place


def small(folder: Path, **changes: object) -> FitConfig:
    """Twelve updates on the toy."""
    fields = {"generator": "toy", "data": str(folder), "steps": 12, "batch": 4, "warmup": 2, "rank": 2, "lr": 1e-3}
    return preset("default", **fields | {"targets": "attention", "checkpoint_every": 5} | changes)


def bits(run: Path) -> bytes:
    return Run(run).adapter.read_bytes()


# The learning rate.


def test_rate_by_hand() -> None:
    config = FitConfig(lr=1.0, warmup=3, steps=7, schedule="cosine")
    expected = [0.25, 0.5, 0.75, 1.0, 0.5 + 0.25 * math.sqrt(2), 0.5, 0.5 - 0.25 * math.sqrt(2)]
    assert_close(torch.tensor([rate(step, config) for step in range(7)]), torch.tensor(expected))
    assert [rate(step, config.replace(schedule="constant", warmup=0)) for step in (0, 6)] == [1.0, 1.0]


# One update against plain PyTorch.


@pytest.mark.parametrize("objective", ["native", "image"])
def test_two_updates_are_those_of_plain_pytorch(folder: Path, tmp_path: Path, objective: str) -> None:
    config = small(folder, steps=2, image_share=float(objective == "image"), mirror=False, clip=0.01, weight_decay=0.1)
    out = fit(config, tmp_path / "run", device="cpu")

    generator, kind = load("toy"), intrinsic("normal")
    examples = select(dataset(str(folder), intrinsic="normal"), 8, seed=0)
    lora.attach(generator.network, config.adapter, generator.targets["attention"], 0)
    weights = lora.trainable(generator.network)
    optimizer = torch.optim.AdamW(weights, weight_decay=0.1)
    examples = [square(example, kind, side=generator.resolution) for example in examples]
    images, maps, valid = (torch.stack([getattr(e, part) for e in examples]) for part in ("image", "map", "valid"))
    code, target = generator.encode(images), generator.target(maps)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for step, rows in enumerate(order.split(4)):
        optimizer.param_groups[0]["lr"] = config.lr * (step + 1) / 3
        optimizer.zero_grad()
        if objective == "native":
            loss = generator.loss(code[rows], target[rows], valid[rows])
        else:
            loss = kind.loss(generator.forward(code[rows]), maps[rows].half().float(), valid[rows])
        loss.mean().backward()
        nn.utils.clip_grad_norm_(weights, 0.01)
        optimizer.step()
    weights, expected = file.read(out)[0], lora.state(generator.network)
    assert weights.keys() == expected.keys()
    for name in expected:
        assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-7)


def test_accumulation_changes_rounding_only(folder: Path, tmp_path: Path) -> None:
    whole = file.read(fit(small(folder, steps=3), tmp_path / "whole", device="cpu"))[0]
    parts = file.read(fit(small(folder, steps=3, accumulate=3), tmp_path / "parts", device="cpu"))[0]
    for name in whole:
        assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(folder: Path, tmp_path: Path) -> None:
    plain = file.read(fit(small(folder, steps=3), tmp_path / "plain", device="cpu"))[0]
    frugal = file.read(fit(small(folder, steps=3, gradient_checkpointing=True), tmp_path / "frugal", device="cpu"))[0]
    for name in plain:
        assert_close(frugal[name], plain[name])


def test_the_average_is_what_is_kept(folder: Path, tmp_path: Path) -> None:
    run = Run(fit(small(folder, steps=4, ema=0.5), tmp_path / "run", device="cpu"))
    kept, (stored, _) = file.read(run.path)[0], read(run.checkpoint)
    name = "blocks.0.to_q.lora_B"
    assert_close(kept[f"{name}.weight"], stored[f"average.{name}.default.weight"])
    assert not kept[f"{name}.weight"].equal(stored[f"weight.{name}.default.weight"])


# End to end.


@pytest.mark.parametrize(("method", "share", "lr"), [("lora", 0.5, 1e-2), ("scratch", 0.0, 5e-3)])
def test_it_learns_more_than_the_mean_map(folder: Path, tmp_path: Path, method: str, share: float, lr: float) -> None:
    config = small(folder, method=method, targets="all", rank=8, steps=40, batch=8, lr=lr, image_share=share)
    run, kind = Run(fit(config, tmp_path / "run", device="cpu")), intrinsic("normal")
    held = [square(e, kind, side=32) for e in dataset(str(folder), intrinsic="normal", split="validation")]
    mean = read(run.mean)[0]["mean"][None]
    guess = torch.cat([kind.metrics(mean, e.map[None], e.valid[None])["mean_angle"] for e in held]).mean()
    scores = file.read(run.path)[1].scores
    assert (scores["split"], scores["images"]) == ("validation", 2)
    assert scores["mean_angle"] < 0.8 * guess
    rows = [json.loads(line) for line in run.log.read_text().splitlines()]
    native = [row["loss"] for row in rows if row["step"] <= 40 * (1 - share)]
    assert native[-1] < 0.5 * native[0]


def test_a_run_tells_its_own_story(folder: Path, tmp_path: Path) -> None:
    run = Run(fit(small(folder, labels=3, seed=4), tmp_path / "run", device="cpu"))
    about = file.read(run.path)[1]
    config = FitConfig.read(read_json(run.config))
    assert (config.labels, config.precision) == (3, "fp32")
    assert about.fit == config.write()
    assert (about.generator, about.fingerprint, about.intrinsic) == ("toy", load("toy").fingerprint, "normal")
    assert about.data == read_json(run.data)
    assert set(about.data["labels"]) < {f"train{index}" for index in range(8)}
    assert read_json(run.versions)["torch"] == torch.__version__
    assert read(run.mean)[0]["mean"].norm(dim=0).sub(1).abs().max() < 1e-5
    assert Image.open(run.sheet).size[0] > 3 * 32
    assert [json.loads(line)["step"] for line in run.log.read_text().splitlines()] == [5, 10, 12]


def test_fewer_labels_are_among_more(folder: Path) -> None:
    examples = dataset(str(folder), intrinsic="normal")
    assert select(examples, 3, seed=2).names == select(examples, 6, seed=2).names[:3]


def test_random_weights_are_another_network_under_the_same_fit(folder: Path, tmp_path: Path) -> None:
    out = fit(small(folder), tmp_path / "run", device="cpu")
    other = control(out, device="cpu")
    assert other == tmp_path / "run" / "controls" / "random-weights"
    about, twin = file.read(out)[1], file.read(other)[1]
    assert (about.random_weights, twin.random_weights) == (None, 0)
    assert twin.fit == about.fit | {"random_weights": True}
    assert twin.data == about.data
    assert bits(other) != bits(out)
    with pytest.raises(ValueError, match="expected a run on the generator's own weights"):
        control(other)


# Stopping and going on.


def test_same_seed_same_bits(folder: Path, tmp_path: Path) -> None:
    first, second = (fit(small(folder), tmp_path / name, device="cpu") for name in ("a", "b"))
    assert bits(first) == bits(second)
    assert bits(fit(small(folder, seed=1), tmp_path / "c", device="cpu")) != bits(first)


def forkserver() -> multiprocessing.context.ForkServerContext:
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ilora.fit", "ilora.generators.toy", "ilora.intrinsics.normal", "peft"])
    return context


def steps_done(run: Run) -> int:
    """Last step that the log tells of; 0 before there is one."""
    lines = run.log.read_text().splitlines() if run.log.is_file() else []
    return next((json.loads(line)["step"] for line in reversed(lines) if line.endswith("}")), 0)


def test_killed_at_random_moments_and_resumed_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    config = small(folder, steps=200, checkpoint_every=3, ema=0.9, image_share=0.5)
    straight = fit(config, tmp_path / "straight", device="cpu")
    run, moments = Run(tmp_path / "killed"), random.Random(0)
    arguments = {"resume": True, "device": "cpu"}
    for step in sorted(moments.sample(range(3, 120), 10)):
        process = forkserver().Process(target=fit, args=(config, run.path), kwargs=arguments)
        process.start()
        while steps_done(run) < step and process.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not run.adapter.is_file()
    fit(config, run.path, **arguments)
    assert bits(run.path) == bits(straight)


def command(words: list[str], told: Path) -> None:
    """``ilora WORDS`` in this process, what it tells going to a file."""
    with told.open("w") as sys.stderr:
        sys.argv = ["ilora", *words]
        main()


def test_interrupted_it_saves_and_says_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    run, told = Run(tmp_path / "run"), tmp_path / "told.txt"
    words = ["--generator", "toy", "--data", str(folder), "--steps", "100000", "--device", "cpu", "--rank", "2"]
    process = forkserver().Process(target=command, args=(["fit", *words, "--out", str(run.path)], told))
    process.start()
    while not steps_done(run) and process.is_alive():  # the log is there, and empty, just before signals are caught
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    step = int(read(run.checkpoint)[1]["step"])
    assert f"stopped after {step} of 100000 updates" in told.read_text()
    assert f"ilora fit --resume --out {run.path}" in told.read_text()
    assert step == json.loads(run.log.read_text().splitlines()[-1])["step"]
    for place in (run.path, tmp_path):  # and whoever wants to use it is told so, too
        with pytest.raises(FileNotFoundError, match=f"not finished; go on with it: .* --resume --out {run.path}$"):
            Predictor(place)


def test_a_stop_says_what_to_do_wherever_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert after(KeyboardInterrupt(), "~/run") == "nothing was begun; give the same command again"
    with pytest.raises(ValueError, match=r"a run to go on with, got no config\.json in ~/run; correct --out"):
        configure("~/run", {}, resume=True)
    begun = configure("~/run", {"rank": 3}, resume=True)  # begins, if it is said what
    write_json(Run(tmp_path / "run").config, begun.write())
    assert after(KeyboardInterrupt(), "~/run") == "stopped: ilora fit --resume --out ~/run"
    assert after(KeyboardInterrupt("after 3 updates"), "~/run") == "after 3 updates: ilora fit --resume --out ~/run"
    assert configure("~/run", {}, resume=True) == begun and begun.rank == 3


def test_a_finished_run_is_left_alone(folder: Path, tmp_path: Path) -> None:
    out = fit(small(folder), tmp_path / "run", device="cpu")
    before = Run(out).adapter.stat().st_mtime_ns
    assert fit(small(folder), out, resume=True, device="cpu") == out
    assert Run(out).adapter.stat().st_mtime_ns == before


# Refusals.


def test_a_run_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    out = fit(small(folder, steps=1), tmp_path / "run", device="cpu")
    with pytest.raises(FileExistsError, match=r"holds a run already; go on with it \(--resume\)"):
        fit(small(folder, steps=1), out)


def test_a_folder_of_other_things_is_not_written_into(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"must be empty or a run, got thesis\.txt in it"):
        fit(small(folder), tmp_path)


def test_resuming_with_another_configuration_names_the_field(folder: Path, tmp_path: Path) -> None:
    out = fit(small(folder, steps=1), tmp_path / "run", device="cpu")
    with pytest.raises(ValueError, match=r"was begun with lr = 0\.001, got 0\.002"):
        fit(small(folder, steps=1, lr=2e-3), out, resume=True)
    assert configure(out, {"lr": 2e-3}, resume=True) == FitConfig.read(read_json(Run(out).config)).replace(lr=2e-3)


def test_resuming_on_changed_data_is_refused(folder: Path, tmp_path: Path) -> None:
    out = fit(small(folder, steps=1), tmp_path / "run", device="cpu")
    Run(out).data.write_text(json.dumps(read_json(Run(out).data) | {"fingerprint": "other"}))
    with pytest.raises(ValueError, match=r"has other content than .* was begun with"):
        fit(small(folder, steps=1), out, resume=True)


def test_too_many_labels(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"count must be at most 8.* got 9"):
        fit(small(folder, labels=9), tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_fit(folder: Path, tmp_path: Path) -> None:
    config = small(folder, lr=1e30, clip=None, warmup=0, targets="all")
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf) at step \d+ with lr = .*learning rate"):
        fit(config, tmp_path / "run", device="cpu")
    assert not Run(tmp_path / "run").adapter.exists()


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(small(folder, labels=3), tmp_path / "run", dry_run=True, device="cpu")
    told = capsys.readouterr().err
    plan = json.loads(told[: told.rindex("}") + 1])
    assert (plan["config"]["labels"], len(plan["data"]["labels"]), plan["device"]) == (3, 3, "cpu")
    assert "2,048 of 101,488 weights move (2.02 %)" in told
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()

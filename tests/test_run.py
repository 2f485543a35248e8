"""The run folder: what is written is whole or absent, and what is read back continues bit by bit."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ilora.run import (
    Run,
    append,
    cut,
    fail,
    interruption,
    load_checkpoint,
    read_json,
    rows,
    save_checkpoint,
    versions,
    write_json,
)


def test_json_comes_back_and_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.json"
    write_json(path, {"rank": 8, "name": "größer"})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"rank": object()})
    assert read_json(path) == {"rank": 8, "name": "größer"}
    assert list(path.parent.iterdir()) == [path]


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"rank"')
    with pytest.raises(ValueError, match=r"config.json must be JSON"):
        read_json(tmp_path / "config.json")


def test_the_log_is_cut_after_the_last_checkpoint(tmp_path: Path) -> None:
    log = Run(tmp_path).log
    for step in (10, 20, 30):
        append(log, {"step": step})
    with log.open("a") as file:
        file.write('{"step": 4')  # killed here
    assert cut(log, 20) == {"step": 20}
    assert [json.loads(line) for line in log.read_text().splitlines()] == [{"step": 10}, {"step": 20}]


def test_half_a_line_is_cut_from_a_log_and_the_rest_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert rows(log) == [] and not log.exists()
    append(log, {"name": "ü", "values": [1.5]})
    before = log.stat().st_mtime_ns
    assert rows(log) == [{"name": "ü", "values": [1.5]}] and log.stat().st_mtime_ns == before
    whole = log.read_bytes()
    for rest in (b'{"name": "b"', bytes(20)):  # killed here; the power failed
        log.write_bytes(whole + rest)
        assert rows(log) == [{"name": "ü", "values": [1.5]}] and log.read_bytes() == whole
    log.write_bytes(whole[:-1])  # the line end is missing, and the next line would join this one
    assert len(rows(log)) == 1 and log.read_bytes() == whole


def test_a_failure_is_one_line_now_and_later(capsys: pytest.CaptureFixture[str]) -> None:
    failed: dict[str, str] = {}
    fail(failed, "a.png", "a.png cannot be read:\n  cut short")
    assert failed == {"a.png": "cannot be read: cut short"}
    assert capsys.readouterr().err == "a.png: cannot be read: cut short\n"


def test_an_absent_log_has_no_last_line(tmp_path: Path) -> None:
    assert cut(Run(tmp_path).log, 20) == {}


def test_versions_name_the_installed_libraries() -> None:
    assert versions()["torch"] == torch.__version__
    assert set(versions()) >= {"python", "ilora", "numpy", "safetensors"}


def learner(seed: int) -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    return dict(network.named_parameters()), torch.optim.AdamW(network.parameters(), lr=0.1)


def learn(parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        sum((value * (step + 1)).sin().sum() for value in parameters.values()).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_checkpoint_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        straight, straight_optimizer = learner(0)
        stopped, stopped_optimizer = learner(0)
        fresh, fresh_optimizer = learner(1)
    learn(straight, straight_optimizer, range(7))
    learn(stopped, stopped_optimizer, range(4))
    average = {name: value.detach() / 2 for name, value in stopped.items()}
    save_checkpoint(Run(tmp_path).checkpoint, 4, stopped, optimizer=stopped_optimizer, average=average)

    read = {name: torch.zeros_like(value) for name, value in average.items()}
    assert load_checkpoint(Run(tmp_path).checkpoint, fresh, optimizer=fresh_optimizer, average=read) == 4
    learn(fresh, fresh_optimizer, range(4, 7))
    assert all(torch.equal(fresh[name], straight[name]) for name in straight)
    assert all(torch.equal(read[name], average[name]) for name in average)


def test_no_checkpoint_means_the_beginning(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        parameters, optimizer = learner(0)
    before = {name: value.clone() for name, value in parameters.items()}
    assert load_checkpoint(Run(tmp_path).checkpoint, parameters, optimizer=optimizer, average={}) == 0
    assert all(torch.equal(parameters[name], before[name]) for name in before)


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        parameters, optimizer = learner(0)
    save_checkpoint(Run(tmp_path).checkpoint, 1, parameters, optimizer=optimizer, average={})
    del parameters["bias"]
    with pytest.raises(ValueError, match=r"must hold these 1 weights, got others, such as weight\.bias"):
        load_checkpoint(Run(tmp_path).checkpoint, parameters, optimizer=optimizer, average={})


@pytest.fixture
def heard() -> Iterator[None]:
    """Interrupts are raised, though the tests may run in the background, where they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_the_first_interrupt_asks_and_the_second_one_kills() -> None:
    with pytest.raises(KeyboardInterrupt), interruption() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)

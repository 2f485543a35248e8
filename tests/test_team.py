"""Several processes that share a fit find what one finds."""

import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.adapters import file
from ilora.config import FitConfig
from ilora.fit import fit
from ilora.presets import preset
from ilora.run import Run
from ilora.team import Team
from tests import world


def test_a_team_of_one_adds_nothing() -> None:
    team = Team("cpu")
    weight = torch.ones(2, requires_grad=True)
    (3 * weight).sum().backward()
    assert team.unite([weight], torch.tensor(5.0), stop=False) == (torch.tensor(5.0), False)
    assert weight.grad.tolist() == [3, 3]
    assert (team.rank, team.size, team.device) == (0, 1, torch.device("cpu"))


def member(rank: int, port: int, config: FitConfig, out: Path) -> None:
    """One of two processes, as ``torchrun`` starts them."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= place | {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    fit(config, out, device="cpu")


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="several processes need accelerate")
    folder = world.write(tmp_path / "world", train=4, test=1)
    config = preset("default", generator="toy", data=str(folder), steps=3, batch=3, warmup=1, accumulate=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ilora.fit", "accelerate"])
    team = [context.Process(target=member, args=(rank, port, config, tmp_path / "two")) for rank in (0, 1)]
    for process in team:
        process.start()
    one = file.read(fit(config, tmp_path / "one", device="cpu"))[0]
    for process in team:
        process.join()
    two = file.read(tmp_path / "two")[0]
    one_curve, two_curve = (
        [json.loads(line)["loss"] for line in Run(tmp_path / name).log.read_text().splitlines()]
        for name in ("one", "two")
    )
    assert one_curve and two_curve == pytest.approx(one_curve, abs=1e-5)
    for name in one:
        assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)

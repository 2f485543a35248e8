import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ilora.adapters import file, lora
from ilora.adapters.file import About
from ilora.config import AdapterConfig, FitConfig, Readout
from ilora.generators import load

ABOUT = About(
    generator="toy",
    fingerprint="abc",
    intrinsic="normal",
    units="unit vectors, x right, y up, z to the viewer",
    adapter=AdapterConfig(method="dora", rank=2, alpha=3.0, targets=".*to_q"),
    readout=Readout(timestep=250, image=None, output=-1.0),
    random_weights=3,
    fit=FitConfig(rank=2).write(),
    data={"name": "rooms", "labels": 250},
    scores={"mean_angle": 12.5},
    versions={"ilora": "0.1.0"},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    toy = load("toy")
    lora.attach(toy.network, ABOUT.adapter, ABOUT.adapter.targets)
    weights = lora.state(toy.network)
    file.write(tmp_path / "run" / file.FILE, weights, ABOUT)
    for path in (tmp_path / "run", tmp_path / "run" / file.FILE):
        found, about = file.read(path)
        assert about == ABOUT
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [file.FILE]  # no temporary file is left
    assert load_file(tmp_path / "run" / file.FILE).keys() == weights.keys()  # plain safetensors


def test_controls_go_through_the_same_file(tmp_path: Path) -> None:
    toy, other = load("toy"), load("toy")
    image, code = toy.sample([0])
    lora.attach(toy.network, AdapterConfig(method="scratch"), ".*", seed=1)
    painted = toy.forward(code)
    about = ABOUT.replace(adapter=AdapterConfig(method="scratch").write())
    file.write(tmp_path / file.FILE, lora.state(toy.network), about)
    weights, about = file.read(tmp_path)
    lora.attach(other.network, about.adapter, ".*", seed=2)
    lora.load_state(other.network, weights)
    assert torch.equal(other.forward(code), painted)
    lora.detach(other.network)
    assert torch.equal(other.sample([0])[0], image)


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    file.write(tmp_path / "a", {"x": torch.ones(2)}, ABOUT)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(TypeError):
        file.write(tmp_path / "a", {"x": "not a tensor"}, ABOUT)  # type: ignore[dict-item]
    assert (tmp_path / "a").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_no_adapter_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a run folder with adapter\.safetensors"):
        file.read(tmp_path)
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"holds 1 tensors but does not say what they are for; .*formats\.read"):
        file.read(path)
    save_file({"x": torch.ones(2)}, path, {file.KEY: json.dumps({**ABOUT.write(), "intrinsics": "normal"})})
    with pytest.raises(ValueError, match=r"About has no option 'intrinsics'; did you mean 'intrinsic'"):
        file.read(path)


def test_another_generators_adapter_is_refused() -> None:
    toy = load("toy")
    with pytest.raises(ValueError, match=rf"made for 'toy' with weights abc, got 'toy' with weights {toy.fingerprint}"):
        file.match(ABOUT, toy)
    file.match(ABOUT, toy, force=True)
    file.match(ABOUT.replace(fingerprint=toy.fingerprint), toy)

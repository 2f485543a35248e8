"""Other programs' files in their true layout: read, they paint the same pictures; hostile, they do nothing."""

import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from ilora.generators import convert, load, original, pickles, stylegan_files, stylegan_sources
from ilora.generators.pickles import Name, Note
from ilora.generators.stylegan_sources import open_file
from tests import stylegan_layouts, tiny_stylegan

ADA, TENSORFLOW, THIRD = (getattr(stylegan_layouts, f"write_{name}") for name in ("ada", "tensorflow", "third"))
PLAIN = {"mapping": tiny_stylegan.mapping(layers=8)}


def written(kind: str, path: Path) -> nn.Module:
    """The network of a file in one of the layouts."""
    if kind == "ada":
        network = tiny_stylegan.network2(mapping=tiny_stylegan.mapping(classes=3, class_width=16))
        stylegan_layouts.write_ada(path, network)
    elif kind == "tensorflow":
        network = tiny_stylegan.network2(clamp=None)
        stylegan_layouts.write_tensorflow(path, network)
    elif kind == "rosinality":
        network = tiny_stylegan.network2(clamp=None)
        stylegan_layouts.write_rosinality(path, network)
    elif kind == "three":
        network = tiny_stylegan.network3()
        stylegan_layouts.write_third(path, network)
    else:
        classes = {"classes": 3, "embedding": 5, "class_width": 7, "class_activation": True, "centres": 3}
        network = tiny_stylegan.network3(mapping=tiny_stylegan.mapping(**classes))
        stylegan_layouts.write_third(path, network)
    return network


LAYOUTS = {"ada": ".pkl", "tensorflow": ".pkl", "rosinality": ".pt", "three": ".pkl", "xl": ".pkl"}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_file_in_its_true_layout_paints_the_same(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{LAYOUTS[kind]}"
    network, before = written(kind, path), set(sys.modules)
    folder = convert(path, tmp_path / "folder")
    assert not {name for name in set(sys.modules) - before if name.startswith(("dnnlib", "torch_utils"))}
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "generator.safetensors"]

    z = torch.randn(2, 12, generator=torch.Generator().manual_seed(3))
    classes = torch.tensor([2, 0]) if network.shape.mapping.classes else None
    style = network.mapping(z, classes)
    styles = style[:, None] + 0.3 * torch.randn(2, network.shape.styles, 16, generator=torch.Generator().manual_seed(4))
    for name in (str(folder), str(path)):
        found = load(name)
        assert_close(found.network.mapping(z, classes), style)
        assert_close(found.network.mapping.centre(classes), network.mapping.centre(classes))
        assert_close(found.forward(styles), network(styles), rtol=1e-4, atol=1e-5)
    assert found.resolution == network.shape.resolution


def test_what_we_write_we_read_to_the_bit(tmp_path: Path) -> None:
    for write, make in (
        (tiny_stylegan.write_stylegan2, tiny_stylegan.network2),
        (tiny_stylegan.write_stylegan3, tiny_stylegan.network3),
    ):
        folder, network = write(tmp_path / make.__name__), make()
        opened = stylegan_files.open_path(folder)
        assert opened.network.shape == network.shape
        styles = torch.randn(1, network.shape.styles, 16, generator=torch.Generator().manual_seed(4))
        assert torch.equal(opened.network(styles), network(styles))
        stored = load_file(folder / "generator.safetensors")
        assert stored.keys() == network.state_dict().keys()


def test_files_from_before_torch_1_6_and_without_a_mean_style(tmp_path: Path) -> None:
    network = tiny_stylegan.network2(clamp=None, mapping=tiny_stylegan.mapping(layers=8))
    stylegan_layouts.write_rosinality(tmp_path / "old.pt", network, old=True, mean=False)
    found = open_file(tmp_path / "old.pt")
    mean = network.mapping(torch.randn(4096, 12, generator=torch.Generator().manual_seed(0))).mean(0)
    assert_close(found.weights["mapping.w_avg"], mean)
    assert found.shape == network.shape


def test_wrong_contents_are_named(tmp_path: Path) -> None:
    for content, message in (
        ({"G": 1}, "expected a pickled module, got NoneType"),
        ((1, 2, 3), "expected a network of NVIDIA's TensorFlow library"),
        ([1], "expected a pickled module"),
    ):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=message):
            open_file(tmp_path / "a.pkl")
    torch.save({"g_ema": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="must hold rosinality's 'g_ema'"):
        open_file(tmp_path / "a.pt")


def test_missing_and_misshapen_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, network = tmp_path / "a.pkl", tiny_stylegan.network2(**PLAIN)
    original = stylegan_layouts.module
    for missing, changes, message in (
        ("const", {}, "with parts missing"),
        ("bias", {}, "with parts missing"),
        (None, {"architecture": "resnet"}, "expected blocks of the architecture 'skip', got 'resnet'"),
    ):

        def without(name, parameters, buffers, inside, missing=missing, changes=changes, **own):
            kept = {key: value for key, value in parameters.items() if key != missing}
            return original(name, kept, buffers, inside, **(own | changes))

        monkeypatch.setattr(stylegan_layouts, "module", without)
        stylegan_layouts.write_ada(path, network)
        with pytest.raises(ValueError, match=message):
            convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_networks_inside_each_other_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stylegan_sources, "MODULES", 50)
    loop = Note(Name("dnnlib.tflib.network", "Network"), state={"variables": [], "components": {}})
    loop.state["components"] = {"a": loop, "b": loop}
    with pytest.raises(ValueError, match="at most 50 networks"):
        stylegan_sources.tensorflow(loop)
    array = pickles.parse(io.BytesIO(pickle.dumps(np.ones(30, np.float32))))
    monkeypatch.setattr(stylegan_sources, "TOTAL", 100)
    loop.state |= {"variables": [(str(n), array) for n in range(4)]}
    with pytest.raises(ValueError, match="at most 100 numbers"):
        stylegan_sources.tensorflow(loop)


class Hostile:
    """Runs a command when an ordinary reader meets it."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.line,)


@pytest.mark.parametrize("place", ["beside", "instead", "as an attribute", "as a weight"])
def test_a_hostile_checkpoint_does_nothing(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the payload is needed for nothing the file is read, elsewhere it is refused; either way nothing runs."""
    path, trace, network = tmp_path / "a.pkl", tmp_path / "it ran", tiny_stylegan.network2(**PLAIN)
    payload, original = Hostile(f"touch {trace}"), stylegan_layouts.module

    def changed(name, parameters, buffers, inside, **own):
        if place == "beside" and name == "Discriminator":
            return payload
        if place == "instead" and name == "Generator":
            return payload
        made = original(name, parameters, buffers, inside, **own)
        made.state |= {"augment": payload} if place == "as an attribute" else {}
        if place == "as a weight":
            made.state["_buffers"]["w_avg"] = payload
        return made

    monkeypatch.setattr(stylegan_layouts, "module", changed)
    stylegan_layouts.write_ada(path, network)
    assert b"system" in path.read_bytes()
    if place in ("beside", "as an attribute"):
        assert open_file(path).shape == network.shape
    else:
        with pytest.raises(ValueError, match="nothing in it was run"):
            open_file(path)
    assert not trace.exists()


def test_the_true_layout_is_dangerous_to_an_ordinary_reader(tmp_path: Path) -> None:
    """So that the tests above prove something: Python's own reader runs what the file asks for."""
    stylegan_layouts.write_ada(tmp_path / "a.pkl", tiny_stylegan.network2(**PLAIN))
    with stylegan_layouts.foreign(), pytest.raises(SystemExit, match="the reader called it"):
        pickle.load(io.BytesIO((tmp_path / "a.pkl").read_bytes()))


def test_converting_asks_for_a_checkpoint_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        convert(tmp_path / "absent.pkl", tmp_path / "out")
    (tmp_path / "absent.pt").touch()
    with pytest.raises(FileExistsError, match="expected an empty folder"):
        convert(tmp_path / "absent.pt", tmp_path)


def test_what_needs_no_conversion_is_told_from_what_no_family_knows(tmp_path: Path) -> None:
    needed = {name: torch.zeros(1) for name in original.NEEDED}
    save_file(needed, tmp_path / "sd.safetensors")
    torch.save({"state_dict": needed}, tmp_path / "sd.ckpt")
    (tmp_path / "pipeline" / "unet").mkdir(parents=True)
    (tmp_path / "pipeline" / "vae").mkdir()
    for name in ("sd.safetensors", "sd.ckpt", "pipeline"):
        with pytest.raises(ValueError, match=f"needs no conversion.*--generator {tmp_path / name}"):
            convert(tmp_path / name, tmp_path / "out")
    (tmp_path / "README.md").write_text("# ilora")
    (tmp_path / "damaged.ckpt").write_bytes(b"no zip")
    save_file({"other": torch.zeros(1)}, tmp_path / "adapter.safetensors")
    (tmp_path / "photos").mkdir()
    for name in ("README.md", "damaged.ckpt", "adapter.safetensors", "photos"):
        with pytest.raises(ValueError, match=rf"got {tmp_path / name}, which no family knows; .* StyleGAN's \.pkl"):
            convert(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()

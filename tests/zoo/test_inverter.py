"""``ilora zoo encoder``: an encoder beside a converted StyleGAN, tied to what its training was begun with."""

import shutil
from pathlib import Path

import pytest
import torch

from ilora.generators import load
from ilora.zoo.inverter import train_beside
from tests import tiny_stylegan
from tests.zoo.test_training import shards  # noqa: F401


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A StyleGAN 3 of 16 px without an encoder."""
    return tiny_stylegan.write_stylegan3(tmp_path / "gan", encoder=False)


def test_it_is_put_beside_the_generator(folder: Path) -> None:
    with pytest.raises(ValueError, match="convert the checkpoint first"):
        train_beside(folder.with_suffix(".pkl"))
    path = train_beside(folder, steps=1, device="cpu")
    assert path == folder / "encoder.safetensors"
    generator = load(str(folder))
    generator.inversion = generator.inversion.replace(steps=1)
    assert generator.encode(generator.sample([0])[0]).shape == (1, 4, 16)


def test_it_is_drawn_by_its_seed(folder: Path, tmp_path: Path) -> None:
    twin, written = shutil.copytree(folder, tmp_path / "twin"), []
    for seed, place in enumerate((folder, twin)):
        torch.manual_seed(seed)
        drawn = torch.get_rng_state()
        written.append(train_beside(place, steps=1, device="cpu").read_bytes())
        assert torch.equal(torch.get_rng_state(), drawn)
    assert written[0] == written[1]


def test_a_training_is_of_its_steps_pictures_and_generator(folder: Path, shards: Path) -> None:  # noqa: F811
    """The same call again changes nothing; another is refused, until the old training is deleted."""
    path = train_beside(folder, steps=1, device="cpu")
    first = path.read_bytes()
    assert train_beside(folder, steps=1, device="cpu").read_bytes() == first
    remedy = f"give what it was begun with, or delete {folder / 'encoder-training'} and train anew"
    with pytest.raises(ValueError, match=f"begun with other values of training; {remedy}"):
        train_beside(folder, steps=2, device="cpu")
    with pytest.raises(ValueError, match=f"begun with other values of pictures; {remedy}"):
        train_beside(folder, steps=1, pictures=shards, device="cpu")
    assert path.read_bytes() == first
    weights = folder / "generator.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ValueError, match="begun with other values of generator"):
        train_beside(folder, steps=1, device="cpu")
    weights.write_bytes(kept)
    shutil.rmtree(folder / "encoder-training")
    assert train_beside(folder, steps=2, device="cpu").read_bytes() != first


def test_pictures_are_brought_to_the_generators_side(folder: Path, shards: Path) -> None:  # noqa: F811
    """Shards of 32 px for a generator of 16; none can be made for one of 64."""
    assert train_beside(folder, steps=1, pictures=shards, device="cpu").is_file()
    network = tiny_stylegan.network2(widths=(8, 8, 8, 8, 8))
    large = folder.with_name("large")
    tiny_stylegan.stylegan_files.write(large, network, origin="a test")
    with pytest.raises(ValueError, match=r"expected pictures of 64 px .* got 32 x 32 px; make them: .* --size 64"):
        train_beside(large, steps=1, pictures=shards, device="cpu")

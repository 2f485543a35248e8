"""The encoder that pictures are compared with: what it learns, what its file says, and the one that is shipped."""

import json

import torch
import torch.nn.functional as F

from ilora import tensors
from ilora.data import dataset
from ilora.zoo import make, recipes, scene_encoder
from ilora.zoo.pictures import Pictures
from tests.zoo.test_training import shards  # noqa: F401


def coloured(count: int, *, side: int = 64, seed: int = 0) -> Pictures:
    """Pictures whose left half is more or less red, which is a factor; another factor never changes."""
    red = torch.randint(256, (count,), generator=torch.Generator().manual_seed(seed))
    pixels = torch.full((count, 3, side, side), 90, dtype=torch.uint8)
    pixels[:, 0, :, : side // 2] = red[:, None, None].to(torch.uint8)
    factors = [{"red": float(value), "same": 3.0} for value in red]
    return Pictures(pixels, [""] * count, factors, list(range(count)))


def test_factors_that_vary_are_standardised() -> None:
    names, table = scene_encoder.factor_table(coloured(50))
    assert names == ["red"]
    torch.testing.assert_close((table.mean(), table.std()), (torch.tensor(0.0), torch.tensor(1.0)), atol=1e-5, rtol=0)


def test_it_learns_a_factor_that_a_picture_shows(tmp_path) -> None:
    chosen = recipes.recipe("scene-encoder").replace(
        encoder={"steps": 60, "batch": 16, "lr": 2e-3, "warmup": 5, "ema": 0.9}
    )
    pictures, fresh = coloured(64), coloured(16, seed=1)
    _, table = scene_encoder.factor_table(pictures)
    encoder = scene_encoder.fitted(chosen, pictures, table, tmp_path, device="cpu")
    red = torch.tensor([row["red"] for row in pictures.factors])
    wanted = (torch.tensor([row["red"] for row in fresh.factors]) - red.mean()) / red.std()
    with torch.no_grad():
        guess = encoder.factors(fresh.images(slice(None)))[:, 0]
    assert (guess - wanted).abs().mean() < 0.3  # of a deviation; a guess of the mean is off by 0.8


def test_the_command_leaves_one_file_that_says_what_it_explains(shards, tmp_path, monkeypatch) -> None:  # noqa: F811
    tiny = recipes.recipe("scene-encoder").replace(
        size=32, pictures=24, held_out=8, encoder={"steps": 2, "batch": 4, "lr": 1e-3}
    )
    monkeypatch.setitem(recipes.RECIPES, "tiny-encoder", tiny)
    path = make.make("tiny-encoder", tmp_path / "out", pictures=shards, snapshots=True, device="cpu")
    weights, header = tensors.read(path)
    card = json.loads(header["card"])
    assert card["version"] == scene_encoder.VERSION and list(card["explained"]) == ["red"]
    assert card["explained"]["red"] <= 1
    assert {value.dtype for value in weights.values()} == {torch.float16}


def test_the_shipped_one_is_frozen_and_sees_pictures_of_any_size() -> None:
    encoder = scene_encoder.shipped()
    assert not encoder.training and not any(weight.requires_grad for weight in encoder.parameters())
    rooms = dataset("rooms", intrinsic="depth", split="validation")
    large = torch.stack([rooms[place].image for place in range(3)])  # 128 px
    found = scene_encoder.features(encoder, large)
    assert found.shape == (3, 128) and torch.isfinite(found).all()
    torch.testing.assert_close(scene_encoder.features(encoder, large[1:2]), found[1:2], atol=1e-5, rtol=1e-4)
    small = scene_encoder.features(encoder, F.avg_pool2d(large, 2))
    assert (small - found).norm(dim=1).max() < 0.5 * torch.pdist(found).min()  # nearer than any other room
    explained = json.loads(tensors.read(scene_encoder.SHIPPED)[1]["card"])["explained"]
    assert sum(value > 0.3 for value in explained.values()) >= 8
    assert scene_encoder.SHIPPED.stat().st_size < 2e6


def test_a_smaller_picture_is_enlarged() -> None:
    assert scene_encoder.features(scene_encoder.shipped(), torch.zeros(1, 3, 32, 32)).shape == (1, 128)

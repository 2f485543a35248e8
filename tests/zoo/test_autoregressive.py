"""From pictures and captions to a generator of tokens with its ladder; small enough to run in seconds."""

import json
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from ilora import intrinsics
from ilora.generators import load
from ilora.generators.gpt import Gpt
from ilora.zoo import autoregressive, cards, make, quality, recipes
from ilora.zoo.pictures import Pictures, read_pictures
from ilora.zoo.recipes import TokenRecipe, Training
from tests import tiny_tokens
from tests.zoo.test_training import shards  # noqa: F401

TINY = TokenRecipe(
    name="tiny-ar",
    description="for tests",
    size=32,
    pictures=24,
    held_out=8,
    entries=16,
    entry=4,
    widths=(16, 16, 16),
    groups=8,
    codec=Training(steps=6, batch=4, lr=2e-3),
    codec_crop=16,
    quantise_from=2,
    revive_every=2,
    width=16,
    layers=1,
    heads=2,
    caption_tokens=6,
    variants=2,
    prior=Training(steps=4, batch=4, lr=1e-3, snapshots=(2,)),
)


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_residual_branches_begin_silent_and_the_way_beside_them_keeps_the_variance() -> None:
    codec = autoregressive.build_codec(TINY)
    x = torch.randn(2, 16, 8, 8, generator=numbers())
    blocks = {type(module).__name__: module for module in codec.modules()}
    assert torch.equal(blocks["ResnetBlock2D"](x, temb=None), x)
    assert torch.equal(blocks["Attention"](x), x)
    first = codec.encoder.conv_in(torch.randn(8, 3, 32, 32, generator=numbers()))
    assert first[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.15)


def test_kmeans_finds_separate_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    cells = (centres[:, None] + 0.1 * torch.randn(3, 50, 2, generator=numbers())).flatten(0, 1)
    means = autoregressive.kmeans(cells[torch.randperm(150, generator=numbers(1))], 3, numbers(5))
    assert sorted(means.round().tolist()) == sorted(centres.tolist())


def test_dead_entries_begin_anew_and_live_ones_stay() -> None:
    entries = torch.tensor([[0.0], [100.0], [1.0], [200.0]])
    cells = torch.tensor([[0.9], [0.1], [0.2]])
    assert autoregressive.revived(entries, cells).flatten().tolist() == pytest.approx([0.0, 0.9, 1.0, 0.1])
    assert entries.flatten().tolist() == [0.0, 100.0, 1.0, 200.0]


def test_quantised_by_hand() -> None:
    latent = torch.tensor([0.2, 0.9]).view(1, 1, 1, 2).requires_grad_()
    entries = torch.tensor([[0.0], [1.0]], requires_grad=True)
    nearest, pull = autoregressive.quantised(latent, entries, 0.25)
    assert nearest.flatten().tolist() == pytest.approx([0.0, 1.0])
    assert pull.item() == pytest.approx(1.25 * (0.2**2 + 0.1**2) / 2)
    (3 * nearest.sum()).backward(retain_graph=True)
    assert latent.grad.flatten().tolist() == [3.0, 3.0]  # straight through
    assert entries.grad is None
    latent.grad = None
    pull.backward()
    assert latent.grad.flatten().tolist() == pytest.approx([0.25 * 0.2, 0.25 * -0.1])
    assert entries.grad.flatten().tolist() == pytest.approx([-0.2, 0.1])


def test_variants_are_the_picture_its_mirror_image_and_both_moved() -> None:
    pixels = torch.randint(256, (3, 3, 16, 16), generator=numbers(), dtype=torch.uint8)
    pictures, codec = Pictures(pixels, [""] * 3, [{}] * 3, [0, 1, 2]), tiny_tokens.codec().eval()
    index = torch.tensor([2, 0])
    images = pictures.images(index)
    plain, mirrored, moved = (autoregressive._moved(codec, pictures, index, n, numbers(3)) for n in (0, 1, 2))
    assert torch.equal(plain, autoregressive.tokenise(codec, images))
    assert torch.equal(mirrored, autoregressive.tokenise(codec, images.flip(3)))
    assert moved.shape == plain.shape == (2, 64) and not torch.equal(moved, plain)


def test_surprise_of_a_prior_that_knows_nothing_is_the_logarithm_of_the_codebook() -> None:
    prior = tiny_tokens.gpt(9).eval()
    prior.lm_head.weight.data.zero_()
    words, row = tiny_tokens.prefix().tokens(["sofa", ""]), torch.zeros(2, 9, dtype=torch.long)
    bits = autoregressive.bits_per_token(prior, words, row, tiny_tokens.CODES)
    assert bits == pytest.approx(math.log2(tiny_tokens.CODES))


def test_surprise_scores_each_token_by_those_before_it() -> None:
    prior = tiny_tokens.gpt(9).eval()
    words, row = tiny_tokens.prefix().tokens(["lamp"]), torch.arange(9)[None]
    with torch.no_grad():
        found = autoregressive.surprise(prior, words, row, tiny_tokens.CODES)
        told = torch.cat([words, row[:, :4]], 1)
        shares = prior(told).logits[0, -1, : tiny_tokens.CODES].softmax(0)
    assert found[0, 4].item() == pytest.approx(-math.log(shares[4]), rel=1e-4)


def test_the_shipped_recipe_weighs_at_most_twelve_megabytes() -> None:
    chosen = recipes.recipe("rooms-ar")
    with torch.device("meta"):
        prefix = autoregressive.Prefix(
            words={str(number): chosen.entries + 2 + number for number in range(120)},
            length=chosen.caption_tokens,
            fill=chosen.entries + 1,
            start=(chosen.entries,),
        )
        parts = autoregressive.build_codec(chosen), autoregressive.build_prior(chosen, prefix)
        Gpt(parts[1], prefix, grid=(16, 16), size=chosen.entries)
    assert 2 * sum(weight.numel() for part in parts for weight in part.parameters()) <= 12e6


def test_it_is_made_measured_and_shown(shards, tmp_path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setitem(recipes.RECIPES, "tiny-ar", TINY)
    monkeypatch.setattr(quality, "sliced_wasserstein", partial(quality.sliced_wasserstein, slices=2))
    monkeypatch.setattr(intrinsics, "NAMES", ())  # of the ceiling's 150 images each
    out = tmp_path / "out"
    place = make.make("tiny-ar", out, pictures=shards, snapshots=True, device="cpu")
    names = ["card.json", "model_index.json", "prior", "samples.png", "vqvae"]
    assert sorted(path.name for path in place.iterdir()) == names
    assert load_file(place / "prior" / "model.safetensors")["lm_head.weight"].dtype == torch.float16
    generator = load(str(place))
    images, codes = generator.sample([0, 1], ["a room with a red sofa", ""], guidance=2.0)
    assert images.shape == (2, 3, 32, 32) and codes.shape == (2, 8, 8)
    tokens = load_file(out / "tokens.safetensors")["tokens"]
    assert tokens.shape == (4, 16, 64)  # as they are, mirrored, and both moved

    shown, held = read_pictures(shards, limit=24).split(8)
    exact = autoregressive.tokenise(
        autoregressive.train_codec(TINY, shown, out / "codec", device="cpu"), held.images(slice(None))
    )
    same = generator.encode(held.images(slice(None))).flatten(1).long() == exact
    assert same.float().mean() > 0.9  # weights were rounded to half precision

    # The ladder's last rung is the result itself.
    card = json.loads((place / "card.json").read_text())
    assert [rung["images"] for rung in card["ladder"]] == [8, 16]
    assert all(0 < rung["bits_per_token"] < 2 * math.log2(TINY.entries) for rung in card["ladder"])
    assert load(str(out / "ladder" / "00000016")).fingerprint == generator.fingerprint
    assert card["images_seen"] == {"codec": 24, "prior": 16} and card["ceiling"] == {}
    assert card["parameters"].keys() == {"vqvae", "prior"}
    assert 1 <= card["entries_perplexity"] <= TINY.entries * card["entries_used"] + 1e-6

    # The card in words.
    monkeypatch.setattr(cards, "WEIGHTS", out)
    words = cards.show("generator")
    assert "codec 24, prior 16" in words and "bits a token" in words
    assert f"{card['ladder'][-1]['bits_per_token']:.4f}" in words


def test_a_stopped_training_ends_with_the_same_bits(shards, tmp_path, monkeypatch) -> None:  # noqa: F811
    shown = read_pictures(shards, limit=20)
    whole = autoregressive.train_codec(TINY, shown, tmp_path / "whole", device="cpu")
    kept = autoregressive.distance
    calls = []

    def stop(*given: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return kept(*given)

    monkeypatch.setattr(autoregressive, "distance", stop)
    monkeypatch.setattr(autoregressive, "minimise", partial(autoregressive.minimise, minutes=0))
    with pytest.raises(KeyboardInterrupt):
        autoregressive.train_codec(TINY, shown, tmp_path / "parts", device="cpu")
    assert (tmp_path / "parts" / "checkpoint.safetensors").is_file()
    again = autoregressive.train_codec(TINY, shown, tmp_path / "parts", device="cpu")
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), again.parameters(), strict=True))


def test_unknown_recipes_are_told_the_known_ones(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"among rooms-diffusion, .*rooms-gan, rooms-ar, .*got 'rooms'"):
        make.make("rooms", tmp_path / "out")

"""The causal prior: what each cell sees, which pictures it draws."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2LMHeadModel

from ilora.generators.gpt import Gpt, Prefix
from tests import tiny_tokens

GRID, N = (3, 3), 9


def network() -> GPT2LMHeadModel:
    torch.manual_seed(2)
    return tiny_tokens.gpt(N).eval().requires_grad_(False)


def prior() -> Gpt:
    return Gpt(network(), tiny_tokens.prefix(), grid=GRID, size=tiny_tokens.CODES)


def tokens(batch: int = 2) -> torch.Tensor:
    return torch.randint(tiny_tokens.CODES, (batch, *GRID), generator=torch.Generator().manual_seed(4))


def test_prefixes_by_hand() -> None:
    prefix = Prefix(words={"red": 7, "sofa": 8}, length=3, fill=5, start=(4,))
    assert prefix.tokens(["A Red, red sofa.", "", "sofa sofa red red"]).tolist() == [
        [7, 7, 8, 4],
        [5, 5, 5, 4],
        [8, 8, 7, 4],
    ]
    classes = Prefix(words={str(number): number for number in range(10)}, length=1)
    assert classes.tokens(["3", ""]).tolist() == [[3], [0]]
    assert Prefix.read(prefix.write() | {"start": [4]}) == prefix


def classes() -> Gpt:
    prefix = Prefix(words={str(number): tiny_tokens.CODES + number for number in range(3)}, length=1, fill=32)
    return Gpt(network(), prefix, grid=GRID, size=tiny_tokens.CODES)


@pytest.mark.parametrize("word", ["sofa", "-1", "1.5", "3", "1 2", " "])
def test_what_is_no_class_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=rf"expected a class from 0 to 2 as the prompt, got '{word}'; give its number"):
        classes().draw([0], [word], steps=1, guidance=1.0)


def test_without_a_class_a_seed_draws_its_own() -> None:
    ours, seeds = classes(), range(12)
    drawn = ours.draw(seeds, [""] * 12, steps=1, guidance=1.0)
    told = torch.stack([ours.draw(seeds, [word] * 12, steps=1, guidance=1.0) for word in "012"])  # [3, 12, 3, 3]
    same = (told == drawn).flatten(2).all(2)  # [3, 12]
    assert same.any(0).all() and same.any(1).all()  # each picture is of a class, and each class is drawn
    assert torch.equal(ours.draw([7], [""], steps=1, guidance=1.0), drawn[7:8])
    with pytest.raises(ValueError, match="guidance must be 1 for a prior of classes, got 2; leave it out"):
        ours.draw([0], ["1"], steps=1, guidance=2.0)


def test_an_intrinsic_is_read_under_class_0() -> None:
    ours, picture = classes(), tokens()
    empty = ours.read(picture)
    for word, same in (("surface normal", True), ("0", True), ("2", False)):
        ours.ask(word)
        assert torch.equal(ours.read(picture), empty) == same


def test_linear_layers_compute_what_gpt2_computes() -> None:
    stock, ours = network(), prior()
    prefix, row = tiny_tokens.prefix().tokens(["red lamp", ""]), tokens().flatten(1)
    expected = stock(torch.cat([prefix, row[:, :-1]], 1)).logits[:, -N:, : tiny_tokens.CODES]
    shown = torch.cat([ours._start(["red lamp", ""]), ours._embed(row)[:, :-1]], 1)
    assert_close(ours._run(shown, last=N)[0][..., : tiny_tokens.CODES], expected, rtol=0, atol=1e-5)
    assert all(type(layer).__name__ != "Conv1D" for layer in ours.network.modules())


def test_every_cell_of_the_readout_sees_every_token() -> None:
    ours, picture = prior(), tokens(1)
    before = ours.read(picture)
    assert before.shape == (1, tiny_tokens.CODES, *GRID)
    for cell in range(N):
        changed = picture.clone()
        changed.view(-1)[cell] = (changed.view(-1)[cell] + 1) % tiny_tokens.CODES
        moved = (ours.read(changed) - before).abs().amax(1)
        assert (moved > 1e-6).all(), cell


def test_the_readout_is_the_attention_of_two_copies_at_the_same_positions() -> None:
    """Against the same sequence through stock GPT-2 with a causal mask written out."""
    stock, ours, row = network(), prior(), tokens(1).flatten(1)
    ours.ask("sofa")
    prefix = tiny_tokens.prefix().tokens(["sofa"])
    sequence = torch.cat([prefix, row, prefix[:, -1:], row[:, :-1]], 1)
    places = [0, 1, 2, *range(3, 11), 10, *range(2, 11)]  # the last token of the first copy shares position 10
    length = len(places)
    causal = torch.full((length, length), float("-inf")).triu(1)[None, None]
    logits = stock(sequence, attention_mask=causal, position_ids=torch.tensor([places])).logits
    expected = logits[:, -N:, : tiny_tokens.CODES].mT.reshape(1, -1, *GRID)
    assert_close(ours.read(row.view(1, *GRID)), expected, rtol=0, atol=1e-5)


def test_the_prompt_changes_the_readout() -> None:
    ours, picture = prior(), tokens()
    empty = ours.read(picture)
    ours.ask("a sofa")
    assert not torch.equal(ours.read(picture), empty)
    ours.ask("unheard of")
    assert torch.equal(ours.read(picture), empty)


def test_drawn_tokens_follow_the_distribution_and_the_seed() -> None:
    ours = prior()
    drawn = ours.draw([5, 6], ["sofa", "lamp"], steps=1, guidance=1.0)
    assert drawn.shape == (2, *GRID)
    assert torch.equal(ours.draw([6], ["lamp"], steps=1, guidance=1.0), drawn[1:])
    many = ours.draw(range(400), ["sofa"] * 400, steps=1, guidance=1.0)[:, 0, 0]
    logits = network()(tiny_tokens.prefix().tokens(["sofa"])).logits[0, -1, : tiny_tokens.CODES]
    shares = torch.bincount(many, minlength=tiny_tokens.CODES) / 400
    # Standard deviation of a share of 400 draws is at most 0.025.
    assert (shares - logits.softmax(0)).abs().max() < 0.09


def test_drawn_tokens_are_the_first_that_pass_the_cumulative_distribution() -> None:
    """The second token, by running the whole sequence again without a memory."""
    ours = prior()
    drawn = ours.draw([9], ["lamp"], steps=1, guidance=1.0).flatten()
    number = torch.rand(N, generator=torch.Generator().manual_seed(9)).double()
    for cell in range(N):
        told = torch.cat([tiny_tokens.prefix().tokens(["lamp"]), drawn[None, :cell]], 1)
        shares = network()(told).logits[0, -1, : tiny_tokens.CODES].double().softmax(0).tolist()
        total, token = 0.0, 0
        while (total := total + shares[token]) <= number[cell]:
            token += 1
        assert token == drawn[cell]


def test_guidance_follows_the_prompt() -> None:
    ours = prior()
    drawn = ours.draw([1], ["lamp"], steps=1, guidance=3.0)[0, 0, 0].item()
    told, empty = (
        network()(tiny_tokens.prefix().tokens([text])).logits[0, -1, : tiny_tokens.CODES] for text in ("lamp", "")
    )
    heights = (empty + 3 * (told - empty)).softmax(0).cumsum(0)
    number = torch.rand(N, generator=torch.Generator().manual_seed(1))[0]
    assert drawn == int((heights <= number).sum())


def test_a_prior_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="must know 18 positions and token 36, got 11 positions"):
        Gpt(network(), tiny_tokens.prefix(), grid=(4, 4), size=tiny_tokens.CODES)


def test_the_folder_keeps_what_it_was_given(tmp_path: Path) -> None:
    from ilora.generators import load

    folder = tiny_tokens.write_autoregressive(tmp_path / "a", side=6)
    stock = GPT2LMHeadModel.from_pretrained(folder / "prior").eval()
    sample = load(str(folder)).sample([3], "sofa")[1].long().flatten()
    told = torch.cat([tiny_tokens.prefix().tokens(["sofa"]), sample[None, :-1]], 1)
    shares = stock(told).logits[0, -9:, : tiny_tokens.CODES].softmax(-1)
    number = torch.rand(9, generator=torch.Generator().manual_seed(3))
    below, above = shares.cumsum(-1).gather(1, sample[:, None] - (sample[:, None] > 0).long())[:, 0], shares.cumsum(-1)
    upper = above.gather(1, sample[:, None])[:, 0]
    assert ((number < upper + 1e-5) & ((number > below - 1e-5) | (sample == 0))).all()

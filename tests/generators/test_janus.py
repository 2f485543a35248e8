"""Janus beside transformers' own model, and adapters in its language model."""

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import JanusForConditionalGeneration

from ilora.generators import autoregressive, load
from tests import tiny_tokens
from tests.generators.adapted import check_alive, check_learns, check_life


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[JanusForConditionalGeneration, Path]:
    folder = tmp_path_factory.mktemp("janus")
    return tiny_tokens.write_janus(folder), folder


def picture(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_tokens_are_the_nearest_entries_by_angle_and_images_those_of_transformers(
    made: tuple[JanusForConditionalGeneration, Path],
) -> None:
    """The quantiser of deepseek-ai/Janus brings cells and entries to length 1; transformers' port compares them as they
    are, and finds others."""
    stock, folder = made
    assert autoregressive.recognises(str(folder)) and autoregressive.recognises("deepseek-community/Janus-Pro-1B")
    generator, image, codec = load(str(folder)), picture(), stock.model.vqmodel
    with torch.no_grad():
        cells = F.normalize(codec.quant_conv(codec.encoder(image)).flatten(2).mT, dim=2)  # [2, 64, d]
        index = (cells @ F.normalize(codec.quantize.embedding.weight, dim=1).T).argmax(2)  # of the cosine
        painted = stock.decode_image_tokens(index).permute(0, 3, 1, 2)
    code = generator.encode(image)
    assert torch.equal(code.long().flatten(1), index) and len(index.unique()) > 4
    assert not torch.equal(index, codec.encode(image).image_tokens.view(2, -1))
    assert_close(generator.decode(code), painted, rtol=0, atol=1e-4)


def test_the_fingerprint_is_of_the_settings_and_not_of_the_folders_name(
    made: tuple[JanusForConditionalGeneration, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made[1], tmp_path / "another name")
    before = load(str(folder)).fingerprint
    assert before == load(str(made[1])).fingerprint
    settings = folder / "config.json"
    settings.write_text(settings.read_text() + "\n")
    assert load(str(folder)).fingerprint != before


def test_drawn_tokens_follow_the_whole_sequence_and_the_prompt(
    made: tuple[JanusForConditionalGeneration, Path],
) -> None:
    """Each token again, by running everything before it at once; guided, with padding in the prompt's place."""
    stock, folder = made
    prompt = [0, 4, 5, 7, 10, 11, 4, 6, 7, 3]  # <s> <| User |>: surface normal <| Assistant |>: <begin_of_image>
    drawn = load(str(folder)).sample([7], "surface normal", guidance=2.0)[1].flatten().long()
    numbers = torch.rand(64, generator=torch.Generator().manual_seed(7)).double()
    for cell in (0, 1, 40, 63):
        logits = []
        for words in (prompt, [0, *[1] * (len(prompt) - 2), 3]):
            text = stock.get_input_embeddings()(torch.tensor([words]))
            shown = torch.cat([text, stock.prepare_embeddings_for_image_generation(drawn[None, :cell])], 1)
            with torch.no_grad():
                state = stock.model.language_model(inputs_embeds=shown).last_hidden_state[:, -1]
                logits.append(stock.model.generation_head(state)[0].double())
        heights = (logits[1] + 2 * (logits[0] - logits[1])).softmax(0).cumsum(0)
        below = heights[drawn[cell] - 1] if drawn[cell] else 0
        assert below - 1e-6 <= numbers[cell] <= heights[drawn[cell]] + 1e-6


def test_every_cell_of_the_readout_sees_every_token(made: tuple[JanusForConditionalGeneration, Path]) -> None:
    prior = load(str(made[1])).prior
    tokens = torch.randint(tiny_tokens.CODES, (1, 8, 8), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        before = prior.read(tokens)
        for cell in (0, 20, 63):
            changed = tokens.clone()
            changed.view(-1)[cell] = (changed.view(-1)[cell] + 1) % tiny_tokens.CODES
            assert ((prior.read(changed) - before).abs().amax(1) > 1e-7).all()


def test_adapters_live_learn_and_leave(made: tuple[JanusForConditionalGeneration, Path]) -> None:
    generator = load(str(made[1]))
    generator.ask("surface normal")
    check_life(generator, picture())
    check_learns(generator, picture())
    check_alive(generator, picture(1), "all")


def test_the_decoder_of_janus_can_be_adapted_too(made: tuple[JanusForConditionalGeneration, Path]) -> None:
    generator = load(f"{made[1]}@decoder")
    check_life(generator, picture())
    check_alive(generator, picture(1), "attention")


def test_another_tokenizer_is_refused(made: tuple[JanusForConditionalGeneration, Path], tmp_path: Path) -> None:
    made[0].save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (made[1] / file).read_text().replace("<begin_of_image>", "<another>")
        (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match="must know the token <begin_of_image>"):
        load(str(tmp_path))

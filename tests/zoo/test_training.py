"""From pictures and captions to a pipeline that stock diffusers loads; small enough to run in seconds."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ilora.zoo import codec, denoiser, recipes
from ilora.zoo.pictures import Pictures, read_pictures
from ilora.zoo.train import rung, train

CAPTIONS = ["a room with a red sofa and a lamp", "a room with a table", "a bright room with two chairs", "a room"]
TINY = recipes.DiffusionRecipe(
    name="tiny",
    description="for tests",
    size=32,
    pictures=24,
    held_out=4,
    latent=4,
    codec_width=16,
    codec_pictures=20,
    codec=recipes.Training(steps=3, batch=4, lr=1e-3),
    codec_crop=16,
    widths=(32, 32),
    heads=(2, 2),
    attention=(False, True),
    denoiser=recipes.Training(steps=4, batch=4, lr=1e-3, snapshots=(2,)),
    text_width=16,
    text_layers=1,
    text_tokens=12,
)


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    numbers = torch.Generator().manual_seed(0)
    for first in (12, 0):  # written out of order
        with tarfile.open(folder / f"rooms-{first:08d}.tar", "w") as shard:
            for seed in range(first, first + 12):
                colour = torch.randint(256, (3,), generator=numbers).tolist()
                picture = io.BytesIO()
                Image.new("RGB", (32, 32), tuple(colour)).save(picture, format="PNG")
                story = json.dumps({"caption": CAPTIONS[seed % 4], "factors": {"red": colour[0]}}).encode()
                for kind, data in (("png", picture.getvalue()), ("json", story)):
                    member = tarfile.TarInfo(f"{seed:08d}.{kind}")
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))
    return folder


def test_pictures_come_in_the_order_of_their_seeds(shards):
    pictures = read_pictures(shards)
    assert pictures.seeds == list(range(24))
    assert pictures.captions[5] == CAPTIONS[1]
    assert pictures.pixels.shape == (24, 3, 32, 32)
    assert pictures.pixels[7, 0, 0, 0].item() == pictures.factors[7]["red"]
    assert read_pictures(shards, limit=5).seeds == [0, 1, 2, 3, 4]


def test_images_span_minus_one_to_one(shards):
    images = Pictures(
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1), ["", ""], [{}, {}], [0, 1]
    )
    assert images.images(slice(None)).unique().tolist() == [-1.0, 1.0]


def test_larger_pictures_are_brought_to_the_recipes_size(tmp_path):
    """Cells of 2 x 2 pixels by hand: 0, 0, 255 and 255 give 127.5, which rounds to the even 128."""
    picture, pixels = io.BytesIO(), np.zeros((4, 4, 3), np.uint8)
    pixels[:, ::2] = 255
    pixels[2:, 2:] = 7
    Image.fromarray(pixels).save(picture, format="PNG")
    with tarfile.open(tmp_path / "rooms.tar", "w") as shard:
        for kind, data in (("png", picture.getvalue()), ("json", b'{"caption": "", "factors": {}}')):
            member = tarfile.TarInfo(f"00000003.{kind}")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    assert read_pictures(tmp_path, size=2).pixels[0, 0].tolist() == [[128, 128], [128, 7]]
    assert read_pictures(tmp_path, size=4).pixels.shape == (1, 3, 4, 4)
    with pytest.raises(ValueError, match="expected pictures of 3 px or a multiple of it"):
        read_pictures(tmp_path, size=3)


def test_no_shards_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="expected webdataset shards"):
        read_pictures(tmp_path)


def test_mixed_colours_stay_in_range_and_leave_half_alone():
    images = torch.rand(400, 3, 2, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mixed = codec.mix_colours(images, torch.Generator().manual_seed(2))
    assert mixed.abs().max() <= 1
    same = (mixed == images).flatten(1).all(1).float().mean().item()
    assert 0.4 < same < 0.6


def test_distance_counts_values_and_differences():
    wanted = torch.zeros(1, 1, 2, 2)
    painted = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    # |error| mean 1/4; of the two vertical differences one is 1: 1/2; likewise horizontally.
    assert codec.distance(painted, wanted).item() == pytest.approx(0.25 + 0.5 + 0.5)


def test_tokens_keep_words_whole_and_pad_to_one_length(tmp_path):
    words = denoiser.tokenizer(TINY, CAPTIONS * 3, tmp_path)
    assert words.tokenize("a room with a red sofa") == ["a</w>", "room</w>", "with</w>", "a</w>", "red</w>", "sofa</w>"]
    ids = denoiser.tokenise(words, ["a room", ""])
    assert ids.shape == (2, 12)
    assert words.decode(ids[0], skip_special_tokens=True).strip() == "a room"


def test_zero_terminal_snr():
    assert denoiser.scheduler().alphas_cumprod[-1].item() == 0


def test_training_leaves_a_pipeline_that_diffusers_loads(shards, tmp_path, monkeypatch):
    from diffusers import StableDiffusionPipeline

    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    place = train("tiny", shards, tmp_path / "out")
    pipeline = StableDiffusionPipeline.from_pretrained(place)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a room with a lamp", num_inference_steps=2).images[0].size == (32, 32)

    # The ladder's last rung is the result itself.
    last = rung("tiny", tmp_path / "out", tmp_path / "out/denoiser/snapshots/00000016.safetensors", tmp_path / "rung")
    twin = StableDiffusionPipeline.from_pretrained(last)
    for one, other in zip(pipeline.unet.parameters(), twin.unet.parameters(), strict=True):
        assert torch.equal(one, other)

    with pytest.raises(ValueError, match="another --out"):
        monkeypatch.setitem(recipes.RECIPES, "tiny", TINY.replace(latent=8))
        train("tiny", shards, tmp_path / "out")

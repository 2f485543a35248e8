"""Train an embedded generator from pictures and captions to a shipped folder, stage after stage, resumable."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ilora.config import Configuration
from ilora.run import read_json, write_json
from ilora.zoo import cards, codec, denoiser
from ilora.zoo.loop import chosen_device, snapshots
from ilora.zoo.pictures import Pictures, read_pictures
from ilora.zoo.recipes import DiffusionRecipe, recipe

SIZES = {"half": 2, "whole": 1}  # side of the cells that pictures are averaged over [px]


def train(name: str, pictures: Path | str, out: Path | str, *, device: str | None = None) -> Path:
    """Train codec, then denoiser and text encoder; leave a diffusers pipeline folder in ``out/generator``.

    A stage that is finished is not run again; a stage that was stopped goes on from its last checkpoint. A codec that
    the recipe takes from another generator is not trained.

    Args:
        name: a recipe's name.
        pictures: folder of webdataset shards of rendered pictures with captions.
        out: checkpoints, logs, ladder snapshots and the result.
        device: where to train; a GPU if there is one.

    Returns:
        The pipeline's folder.

    Raises:
        ValueError: no such recipe, no pictures, or ``out`` belongs to another recipe.
    """
    chosen, out = recipe(name), Path(out)
    device = chosen_device(device)
    claim(chosen, out)
    shown, _ = read_pictures(pictures, limit=chosen.pictures, size=chosen.size).split(chosen.held_out)

    if not chosen.codec_from:
        codec.train_codec(chosen, shown[: chosen.codec_pictures], out / "codec", device=device)
    head = _codec(chosen, out).requires_grad_(False).to(device, memory_format=torch.channels_last)
    pair, words = _pair(chosen, shown.captions, out / "tokenizer", device=device)
    codes = _latents(head, shown, out / "latents.safetensors", device=device)
    tokens = denoiser.tokenise(words, shown.captions).to(device)
    empty = denoiser.tokenise(words, [""]).to(device)
    denoiser.train_denoiser(chosen, pair, codes, tokens, empty, folder=out / "denoiser")
    return assemble(head, pair, words, out / "generator")


def assemble(head: torch.nn.Module, pair: denoiser.Pair, words: "CLIPTokenizer", folder: Path) -> Path:  # noqa: F821
    """Write the parts as a Stable Diffusion pipeline folder in half precision."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=head,
        unet=pair.unet,
        text_encoder=pair.text,
        tokenizer=words,
        scheduler=denoiser.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(fresh)
    pipeline.to(torch.float32)
    # transformers loads at the precision that this file names; the rest of the pipeline loads at single precision.
    story = fresh / "text_encoder" / "config.json"
    story.write_text(json.dumps(json.loads(story.read_text()) | {"dtype": "float32"}, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def rung(name: str, out: Path | str, snapshot: Path, folder: Path) -> Path:
    """A pipeline folder of one snapshot of the ladder that ``train`` left in ``out/denoiser/snapshots``."""
    chosen, out = recipe(name), Path(out)
    head = _codec(chosen, out)
    pair, words = _pair(chosen, [], out / "tokenizer", device="cpu")
    pair.load_state_dict(load_file(snapshot))
    return assemble(head, pair, words, folder)


def claim(chosen: Configuration, out: Path, *, remedy: str = "choose another --out") -> None:
    """Write the recipe down, or refuse a folder that was begun with another.

    Args:
        remedy: what to do about such a folder.

    Raises:
        ValueError: it was; the message names the fields.
    """
    note, wanted = out / "recipe.json", json.loads(json.dumps(chosen.write()))
    kept = read_json(note) if note.exists() else wanted
    if other := sorted(name for name in kept.keys() | wanted.keys() if kept.get(name) != wanted.get(name)):
        raise ValueError(
            f"expected an empty folder or one of the same recipe, got {out}, begun with other values of "
            f"{', '.join(other)}; {remedy}"
        )
    write_json(note, wanted)


def _codec(chosen: DiffusionRecipe, out: Path) -> torch.nn.Module:
    """The codec of another generator, or the one that was trained in ``out``."""
    if chosen.codec_from:
        from diffusers import AutoencoderTiny

        return AutoencoderTiny.from_pretrained(cards.folder(chosen.codec_from) / "vae", torch_dtype=torch.float32)
    head = codec.build(chosen)
    head.load_state_dict(load_file(snapshots(out / "codec")[-1]))
    return head.eval()


def _pair(
    chosen: DiffusionRecipe, captions: list[str], folder: Path, *, device: str
) -> tuple[denoiser.Pair, "CLIPTokenizer"]:  # noqa: F821
    """Fresh denoiser and text encoder, and the tokenizer (made from the captions the first time)."""
    from transformers import CLIPTokenizer

    made = (folder / "tokenizer_config.json").is_file()
    words = CLIPTokenizer.from_pretrained(folder) if made else denoiser.tokenizer(chosen, captions, folder)
    with torch.random.fork_rng():
        torch.manual_seed(chosen.denoiser.seed)
        text = denoiser.build_text(chosen, len(words), words.bos_token_id, words.eos_token_id)
        pair = denoiser.Pair(denoiser.build_unet(chosen), text)
    return pair.to(device, memory_format=torch.channels_last), words


def _latents(head: torch.nn.Module, shown: Pictures, path: Path, *, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of the pictures at half their size and at their size; made once."""
    if not path.is_file():
        made = {name: denoiser.latents(head, shown, shrink=shrink, device=device) for name, shrink in SIZES.items()}
        partial = path.with_suffix(".partial")
        save_file({name: value.cpu().contiguous() for name, value in made.items()}, partial)
        partial.rename(path)
    kept = load_file(path)
    return kept["half"].to(device), kept["whole"].to(device)

"""Train ``rooms-ar``: a codec with a codebook, then a transformer over its tokens; stage after stage, resumable.

The codec sees half of its pictures with mixed colours (``ilora.zoo.codec``), so that its entries can also say what
intrinsic maps look like. No intrinsic map reaches it.
"""

import copy
import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from ilora import tensors
from ilora.generators.gpt import Prefix
from ilora.generators.token_files import Stages, write_folder
from ilora.run import read_json, write_json
from ilora.zoo.birth import silence
from ilora.zoo.codec import crops, distance, mix_colours, moments
from ilora.zoo.loop import chosen_device, mixed, snapshots
from ilora.zoo.loop import train as minimise
from ilora.zoo.pictures import Pictures, moved, read_pictures
from ilora.zoo.recipes import TokenRecipe, recipe
from ilora.zoo.train import claim

SEEN = 32_768  # latent cells that codebooks are begun and mended with
ROUNDS = 10  # of k-means
SHIFT = 4  # largest move of a picture that the prior learns from [px]


def train(name: str, pictures: Path | str, out: Path | str, *, device: str | None = None) -> Path:
    """Train codec, then prior; leave a generator's folder in ``out/generator``.

    A stage that is finished is not run again; a stage that was stopped goes on from its last checkpoint.

    Args:
        name: a recipe's name.
        pictures: folder of webdataset shards of rendered pictures with captions.
        out: checkpoints, logs, ladder snapshots and the result.
        device: where to train; a GPU if there is one.

    Returns:
        The generator's folder.

    Raises:
        ValueError: no such recipe, no pictures, or ``out`` belongs to another recipe.
    """
    chosen, out = recipe(name), Path(out)
    device = chosen_device(device)
    claim(chosen, out)
    shown, _ = read_pictures(pictures, limit=chosen.pictures, size=chosen.size).split(chosen.held_out)
    codec = train_codec(chosen, shown, out / "codec", device=device).requires_grad_(False)
    prefix = vocabulary(chosen, shown.captions, out / "words.json")
    prior = build_prior(chosen, prefix).to(device)
    train_prior(chosen, prior, _tokens(chosen, codec, shown, out / "tokens.safetensors"), _captions(prefix, shown), out)
    return assemble(chosen, codec, prior, prefix, folder=out / "generator")


def rung(name: str, out: Path | str, snapshot: Path, folder: Path) -> Path:
    """A generator's folder of one snapshot of the ladder that ``train`` left in ``out/prior/snapshots``."""
    chosen, out = recipe(name), Path(out)
    codec, prefix = build_codec(chosen), vocabulary(chosen, [], out / "words.json")
    codec.load_state_dict(load_file(snapshots(out / "codec")[-1]))
    prior = build_prior(chosen, prefix)
    prior.load_state_dict(load_file(snapshot))
    return assemble(chosen, codec, prior, prefix, folder=folder)


def assemble(chosen: TokenRecipe, codec: nn.Module, prior: nn.Module, prefix: Prefix, *, folder: Path) -> Path:
    """Write both stages in half precision."""
    halves = (copy.deepcopy(stage).cpu().eval() for stage in (codec, prior))
    codec, prior = (nn.Module.to(stage, torch.float16) for stage in halves)
    return write_folder(Stages(codec, prior, prefix, chosen.size), folder)


def build_codec(chosen: TokenRecipe) -> nn.Module:
    """A fresh ``diffusers.VQModel``."""
    from diffusers import VQModel

    plain = len(chosen.widths) - 1
    with torch.random.fork_rng():
        torch.manual_seed(chosen.codec.seed)
        codec = VQModel(
            block_out_channels=chosen.widths,
            down_block_types=("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",),
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain,
            layers_per_block=1,
            latent_channels=chosen.entry,
            vq_embed_dim=chosen.entry,
            num_vq_embeddings=chosen.entries,
            norm_num_groups=chosen.groups,
            sample_size=chosen.size,
        )
        silence(codec, ("conv2", "to_out.0"))
    return codec


def train_codec(chosen: TokenRecipe, pictures: Pictures, folder: Path, *, device: str) -> nn.Module:
    """Train the codec: L1 of values and differences, and the two ways between latents and entries.

    It first learns to paint without a codebook, from latents of unit variance with noise in place of its rounding.
    Everything that a step does to the codebook follows from the step and the weights, so that a stopped training goes
    on to the same bits.
    """
    codec = build_codec(chosen).to(device, memory_format=torch.channels_last)
    entries = codec.quantize.embedding.weight
    last = 0.7 * chosen.codec.steps  # from here on the learning rate falls, and entries stay what they are

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        if step >= chosen.quantise_from and step % chosen.revive_every == 0 and step < last:
            seen = _cells(chosen, codec, pictures, numbers)
            fresh = kmeans(seen, chosen.entries, numbers) if step == chosen.quantise_from else revived(entries, seen)
            with torch.no_grad():
                entries.copy_(fresh)
        images = _batch(chosen, pictures, chosen.codec.batch, numbers).to(device)
        with mixed(device):
            latent = codec.quant_conv(codec.encoder(images)).float()  # [b, entry, rows, columns]
        if step >= chosen.quantise_from:
            latent, pull = quantised(latent, entries, chosen.commitment)
        else:
            pull = 0.01 * moments(latent)
            latent = latent + chosen.codec_noise * torch.randn(latent.shape, generator=numbers).to(latent)
        with mixed(device):
            painted = codec.decoder(codec.post_quant_conv(latent))
        return distance(painted.float(), images) + pull

    return minimise(codec, loss, chosen.codec, folder)


def quantised(
    latent: Float[Tensor, "b d rows columns"], entries: Float[Tensor, "k d"], commitment: float
) -> tuple[Float[Tensor, "b d rows columns"], Float[Tensor, ""]]:
    """The entry nearest to each cell, with the cell's gradient (straight through), and what pulls both together.

    van den Oord et al. 2017, eq. 3: the entry goes to the cell with weight 1, the cell to it with ``commitment``.
    """
    cells = latent.permute(0, 2, 3, 1)  # [b, rows, columns, d]
    nearest = entries[nearest_entry(cells.detach().flatten(0, 2), entries)].view_as(cells)
    pull = (nearest - cells.detach()).square().mean() + commitment * (cells - nearest.detach()).square().mean()
    return (cells + (nearest - cells).detach()).permute(0, 3, 1, 2), pull


def nearest_entry(cells: Float[Tensor, "n d"], entries: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Number of the entry nearest to each cell."""
    return torch.cdist(cells, entries).argmin(1)


@torch.no_grad()
def kmeans(cells: Float[Tensor, "n d"], count: int, numbers: torch.Generator) -> Float[Tensor, "{count} d"]:
    """Lloyd's means of cells, begun at random ones; a mean that no cell is nearest to stays where it is."""
    means = cells[torch.randperm(len(cells), generator=numbers)[:count].to(cells.device)].clone()
    for _ in range(ROUNDS):
        nearest = nearest_entry(cells, means)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(means).index_add_(0, nearest, cells)
        means = torch.where(sizes > 0, sums / sizes.clamp(min=1), means)
    return means


@torch.no_grad()
def revived(entries: Float[Tensor, "k d"], cells: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """Entries, those that no cell is nearest to replaced by the first cells; cells are in random order."""
    dead = torch.bincount(nearest_entry(cells, entries), minlength=len(entries)) == 0
    fresh = cells[: int(dead.sum())]
    alive = entries.clone()
    alive[dead.nonzero().flatten()[: len(fresh)]] = fresh
    return alive


def vocabulary(chosen: TokenRecipe, captions: list[str], path: Path) -> Prefix:
    """The prefix of captions' words: numbered after the codebook's entries, the start token and the filling one."""
    if not path.is_file():
        words = sorted({word for caption in captions for word in re.findall(r"\w+", caption.lower())})
        first = chosen.entries + 2
        numbered = {word: first + number for number, word in enumerate(words)}
        made = Prefix(words=numbered, length=chosen.caption_tokens, fill=chosen.entries + 1, start=(chosen.entries,))
        write_json(path, made.write())
    return Prefix.read(read_json(path))


def build_prior(chosen: TokenRecipe, prefix: Prefix) -> nn.Module:
    """A fresh ``transformers.GPT2LMHeadModel`` for the prefix and a picture's tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    cells = (chosen.size >> (len(chosen.widths) - 1)) ** 2
    config = GPT2Config(
        vocab_size=chosen.entries + 2 + len(prefix.words),
        n_positions=prefix.length + len(prefix.start) + cells - 1,
        n_embd=chosen.width,
        n_layer=chosen.layers,
        n_head=chosen.heads,
        activation_function="gelu",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), chosen.dropout),
    )
    with torch.random.fork_rng():
        torch.manual_seed(chosen.prior.seed)
        return GPT2LMHeadModel(config)


def train_prior(
    chosen: TokenRecipe,
    prior: nn.Module,
    tokens: Int[Tensor, "v n cells"],
    captions: tuple[Int[Tensor, "n p"], Int[Tensor, "1 p"]],
    out: Path,
) -> nn.Module:
    """Train the prior by cross-entropy on tokens [variants, pictures, cells] after captions, or after the empty one."""
    device = next(prior.parameters()).device
    told, empty = captions

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        variant = torch.randint(len(tokens), (chosen.prior.batch,), generator=numbers)
        picture = torch.randint(len(told), (chosen.prior.batch,), generator=numbers)
        silent = torch.rand(chosen.prior.batch, 1, generator=numbers) < chosen.drop_caption
        words = torch.where(silent, empty, told[picture]).to(device)
        row = tokens[variant, picture].long().to(device)
        noise = int(torch.randint(2**31, (1,), generator=numbers))  # of the dropout
        with torch.random.fork_rng(), mixed(device):
            torch.manual_seed(noise)
            return surprise(prior.train(), words, row, chosen.entries).mean()

    return minimise(prior, loss, chosen.prior, out / "prior")


def surprise(
    prior: nn.Module, words: Int[Tensor, "b p"], row: Int[Tensor, "b n"], entries: int
) -> Float[Tensor, "b n"]:
    """Cross-entropy of each token given those before it [nat], float32."""
    logits = prior(torch.cat([words, row[:, :-1]], 1)).logits[:, -row.shape[1] :, :entries]
    return F.cross_entropy(logits.float().mT, row, reduction="none")


@torch.no_grad()
def bits_per_token(prior: nn.Module, words: Int[Tensor, "n p"], rows: Int[Tensor, "n cells"], entries: int) -> float:
    """Mean cross-entropy of pictures' tokens given their captions [bit]."""
    parts = zip(words.split(32), rows.split(32), strict=True)
    return float(torch.cat([surprise(prior, told, row, entries) for told, row in parts]).mean() / math.log(2))


@torch.no_grad()
def tokenise(codec: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b cells"]:
    """Tokens of pictures, row by row, in float32."""
    weight = codec.quantize.embedding.weight
    latent = codec.quant_conv(codec.encoder(images.to(weight.device)))
    cells = latent.permute(0, 2, 3, 1).flatten(0, 2)  # [b * cells, d]
    return nearest_entry(cells, weight).view(len(images), -1)


def _batch(
    chosen: TokenRecipe, pictures: Pictures, count: int, numbers: torch.Generator
) -> Float[Tensor, "b 3 side side"]:
    images = mix_colours(crops(pictures, count, chosen.codec_crop, numbers), numbers)
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _cells(chosen: TokenRecipe, codec: nn.Module, pictures: Pictures, numbers: torch.Generator) -> Float[Tensor, "n d"]:
    """Latent cells of random crops, ``SEEN`` or all that a few batches have, in random order."""
    device = codec.quantize.embedding.weight.device
    side = chosen.codec_crop >> (len(chosen.widths) - 1)
    count = min(math.ceil(SEEN / side**2), 16 * chosen.codec.batch)
    images = _batch(chosen, pictures, count, numbers)
    with mixed(device):
        latent = torch.cat([codec.quant_conv(codec.encoder(part.to(device))) for part in images.split(64)])
    cells = latent.float().permute(0, 2, 3, 1).flatten(0, 2)  # [n, d]
    return cells[torch.randperm(len(cells), generator=numbers).to(device)]


def _tokens(chosen: TokenRecipe, codec: nn.Module, pictures: Pictures, path: Path) -> Int[Tensor, "v n cells"]:
    """Tokens of each picture as it is and moved, and of its mirror image; made once."""
    if not path.is_file():
        made = []
        for variant in range(2 * chosen.variants):
            numbers = torch.Generator().manual_seed(variant)
            made.append(torch.cat([_moved(codec, pictures, index, variant, numbers) for index in _parts(pictures)]))
        tensors.write(path, {"tokens": torch.stack(made).to(torch.int16)}, {})
    return load_file(path)["tokens"]


def _parts(pictures: Pictures) -> list[Int[Tensor, " b"]]:
    return list(torch.arange(len(pictures)).split(64))


def _moved(
    codec: nn.Module, pictures: Pictures, index: Int[Tensor, " b"], variant: int, numbers: torch.Generator
) -> Int[Tensor, "b cells"]:
    """Tokens of a variant: mirrored where it is odd, and but for the first two moved by up to ``SHIFT`` px."""
    images = pictures.images(index)
    images = images.flip(3) if variant % 2 else images
    return tokenise(codec, moved(images, SHIFT, numbers) if variant > 1 else images).cpu()


def _captions(prefix: Prefix, pictures: Pictures) -> tuple[Int[Tensor, "n p"], Int[Tensor, "1 p"]]:
    return prefix.tokens(pictures.captions), prefix.tokens([""])

"""Taming-transformers in miniature: its forward passes and the names of its layers, written down from the paper's
description independently of the reader under test, and checkpoints in the layout of its trainer."""

import sys
import types
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

WIDTH, MULTIPLES, BLOCKS, SIDE, ENTRIES, LATENT, EMBED = 32, (1, 2), 1, 8, 24, 8, 6
PIXELS = {
    "double_z": False,
    "z_channels": LATENT,
    "resolution": SIDE,
    "in_channels": 3,
    "out_ch": 3,
    "ch": WIDTH,
    "ch_mult": list(MULTIPLES),
    "num_res_blocks": BLOCKS,
    "attn_resolutions": [4],
    "dropout": 0.0,
}
FIRST = {
    "target": "taming.models.vqgan.VQModel",
    "params": {
        "embed_dim": EMBED,
        "n_embed": ENTRIES,
        "ddconfig": PIXELS,
        "lossconfig": {"target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"},
    },
}
GPT = {"vocab_size": ENTRIES, "block_size": 18, "n_layer": 2, "n_head": 2, "n_embd": 16}


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = norm(after), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """One head over all cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))  # [b, c, n]
        weights = (torch.einsum("bcn,bcm->bnm", q, k) * x.shape[1] ** -0.5).softmax(2)
        return x + self.proj_out(torch.einsum("bnm,bcm->bcn", weights, v).view_as(x))


class Down(nn.Module):
    """Half the size; one row and column of zeros below and to the right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def middle(channels: int) -> nn.Module:
    made = nn.Module()
    made.block_1, made.attn_1 = ResnetBlock(channels, channels), AttnBlock(channels)
    made.block_2 = ResnetBlock(channels, channels)
    return made


def through(level: nn.Module, x: Tensor) -> Tensor:
    """The blocks of a level, each followed by its attention where the level has some."""
    for index, block in enumerate(level.block):
        x = block(x)
        x = level.attn[index](x) if len(level.attn) else x
    return x


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in, self.down, before = nn.Conv2d(3, WIDTH, 3, padding=1), nn.ModuleList(), WIDTH
        for index, factor in enumerate(MULTIPLES):
            level = nn.Module()
            level.block, level.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(BLOCKS):
                level.block.append(ResnetBlock(before, WIDTH * factor))
                before = WIDTH * factor
                if SIDE >> index in PIXELS["attn_resolutions"]:
                    level.attn.append(AttnBlock(before))
            if index + 1 < len(MULTIPLES):
                level.downsample = Down(before)
            self.down.append(level)
        self.mid, self.norm_out = middle(before), norm(before)
        self.conv_out = nn.Conv2d(before, LATENT, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = through(level, x)
            x = level.downsample(x) if hasattr(level, "downsample") else x
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Levels are numbered as in the encoder and run from the last to the first, with one block more each."""

    def __init__(self) -> None:
        super().__init__()
        before = WIDTH * MULTIPLES[-1]
        self.conv_in, self.mid = nn.Conv2d(LATENT, before, 3, padding=1), middle(before)
        levels = []
        for index in reversed(range(len(MULTIPLES))):
            level = nn.Module()
            level.block, level.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(BLOCKS + 1):
                level.block.append(ResnetBlock(before, WIDTH * MULTIPLES[index]))
                before = WIDTH * MULTIPLES[index]
                if SIDE >> index in PIXELS["attn_resolutions"]:
                    level.attn.append(AttnBlock(before))
            if index:
                level.upsample = Up(before)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(before), nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(self.conv_in(x))))
        for level in reversed(self.up):
            x = through(level, x)
            x = level.upsample(x) if hasattr(level, "upsample") else x
        return self.conv_out(F.silu(self.norm_out(x)))


class Vqgan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.quantize = Encoder(), Decoder(), nn.Module()
        self.quantize.embedding = nn.Embedding(ENTRIES, EMBED)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(LATENT, EMBED, 1), nn.Conv2d(EMBED, LATENT, 1)

    def tokens(self, x: Tensor) -> Tensor:
        z = self.quant_conv(self.encoder(x)).permute(0, 2, 3, 1)  # [b, rows, columns, d]
        e = self.quantize.embedding.weight
        return (z.square().sum(-1, keepdim=True) + e.square().sum(1) - 2 * z @ e.T).argmin(-1)

    def decode(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(self.quantize.embedding(tokens).permute(0, 3, 1, 2)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width, places = GPT["n_embd"], GPT["block_size"]
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.register_buffer("mask", torch.ones(places, places).tril()[None, None])

    def forward(self, x: Tensor) -> Tensor:
        heads, length = GPT["n_head"], x.shape[1]
        k, q, v = (f(x).unflatten(2, (heads, -1)).transpose(1, 2) for f in (self.key, self.query, self.value))
        scores = q @ k.mT * k.shape[-1] ** -0.5
        scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = GPT["n_embd"]
        self.ln1, self.ln2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), Attention()
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class MinGpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = GPT["n_embd"]
        self.tok_emb = nn.Embedding(GPT["vocab_size"], width)
        self.pos_emb = nn.Parameter(torch.randn(1, GPT["block_size"], width))
        self.blocks = nn.Sequential(*(Block() for _ in range(GPT["n_layer"])))
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, GPT["vocab_size"], bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.ln_f(self.blocks(self.tok_emb(tokens) + self.pos_emb[:, : tokens.shape[1]])))


def models() -> tuple[Vqgan, MinGpt]:
    """A random codec whose tokens differ from cell to cell, and a random transformer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec, prior = Vqgan().eval().requires_grad_(False), MinGpt().eval().requires_grad_(False)
        latent = codec.quant_conv(codec.encoder(torch.rand(2, 3, SIDE, SIDE) * 2 - 1))
        spread = latent.std((0, 2, 3)) * torch.randn(ENTRIES, EMBED)
        codec.quantize.embedding.weight.copy_(latent.mean((0, 2, 3)) + spread)
    return codec, prior


def second(**changes: object) -> dict[str, object]:
    """Configuration of a transformer after a start token, with changes to its parameters."""
    params = {
        "cond_stage_key": "image",
        "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": GPT},
        "first_stage_config": FIRST,
        "cond_stage_config": "__is_unconditional__",
        "sos_token": 3,
    }
    return {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params | changes}


def write(folder: Path, state: dict[str, Tensor], model: dict[str, object], **extra: object) -> Path:
    """``checkpoints/last.ckpt`` and ``configs/2021-project.yaml`` of a training run.

    The trainer's bookkeeping holds a class of its own as a key, a score of numpy and one of torch, as real ones do.
    """
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "configs" / "2021-project.yaml").write_text(yaml.safe_dump({"model": {"base_learning_rate": 1, **model}}))
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    content = {
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {module.ModelCheckpoint: {"best": np.float64(0.5), "score": torch.tensor(0.5), "path": "a.ckpt"}},
        "optimizer_states": [{"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [],
        "state_dict": state,
        **extra,
    }
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    sys.modules |= {name: types.ModuleType(name) for name in names} | {module.__name__: module}
    try:
        torch.save(content, folder / "checkpoints" / "last.ckpt")
    finally:
        for name in names:
            del sys.modules[name]
    return folder / "checkpoints" / "last.ckpt"


def write_codec(folder: Path, codec: Vqgan, **extra: object) -> Path:
    """A first stage, with the tensors of its training loss."""
    state = codec.state_dict() | {"loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4)}
    return write(folder, state, FIRST, **extra)


def write_both(folder: Path, codec: Vqgan, prior: MinGpt, **changes: object) -> Path:
    """A second stage, which holds the first."""
    state = {f"first_stage_model.{name}": tensor for name, tensor in codec.state_dict().items()}
    state |= {f"transformer.{name}": tensor for name, tensor in prior.state_dict().items()}
    return write(folder, state, second(**changes))

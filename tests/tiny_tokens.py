"""Tiny random generators of picture tokens, written the way real ones are."""

from pathlib import Path

import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from ilora.generators.gpt import Prefix
from ilora.generators.token_files import Stages, write_folder
from tests import tiny

CODES = 32
WORDS = ("room", "sofa", "lamp")


def codec(**changes: object) -> VQModel:
    """Tokens of 2 px, attention at the lower level."""
    made = VQModel(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=CODES,
        norm_num_groups=8,
        **changes,
    )
    made.quantize.embedding.weight.data.normal_()  # diffusers' own start is so narrow that all cells are alike
    return made


def prefix() -> Prefix:
    """Captions of two words, then a start token."""
    return Prefix(words={word: CODES + 2 + n for n, word in enumerate(WORDS)}, length=2, fill=CODES + 1, start=(CODES,))


def gpt(tokens: int, vocabulary: int = CODES + 2 + len(WORDS)) -> GPT2LMHeadModel:
    """Two layers of width 16 over so many tokens after the prefix."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=3 + tokens - 1,  # the last token is never read
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,  # so that logits differ
        activation_function="gelu",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


def write_autoregressive(folder: Path, *, side: int = 16, seed: int = 0, prior: bool = True) -> Path:
    """A random generator in our folder: a VQ codec with tokens of 2 px and, with ``prior``, a GPT with captions.

    Args:
        side: of its pictures [px].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = Stages(codec().eval(), gpt((side // 2) ** 2).eval() if prior else None, prefix(), side)
        return write_folder(stages, folder)


def write_amused(folder: Path) -> AmusedPipeline:
    """A random aMUSEd of 16 px, saved to ``folder``; as in released ones, the codec has no attention in its middle."""
    tokens = tiny.write_tokenizer(folder / "written_tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = UVit2DModel(
            hidden_size=16,
            cond_embed_dim=48,
            micro_cond_encode_dim=8,
            micro_cond_embed_dim=5 * 8,
            encoder_hidden_size=64,
            vocab_size=CODES + 8,
            codebook_size=CODES,
            in_channels=16,
            block_out_channels=16,
            num_res_blocks=1,
            block_num_heads=2,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            sample_size=8,
        )
        for block in transformer.transformer_layers:  # born at zero, which would hide what adapters before it do
            for layer in (block.norm1, block.norm2, block.norm3):
                layer.linear.weight.data.normal_(std=0.2)
        made = AmusedPipeline(
            vqvae=codec(mid_block_add_attention=False, lookup_from_codebook=True).eval(),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "written_tokenizer"),
            text_encoder=tiny.text_model(tokens, kind=CLIPTextModelWithProjection),
            transformer=transformer.eval(),
            scheduler=AmusedScheduler(mask_token_id=CODES + 7),
        )
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def write_janus(folder: Path) -> JanusForConditionalGeneration:
    """A random Janus of 16 px with tokens of 2 px, saved to ``folder`` with a tokenizer of whole words."""
    special = ["<s>", "<pad>", "<unk>", "<begin_of_image>"]
    words = [*special, "<|", "User", "Assistant", "|>:", "|>", ":", *tiny.WORDS]  # surface is 10
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<begin_of_image>"],
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = JanusConfig(
        text_config=LlamaConfig(vocab_size=len(words), num_key_value_heads=2, initializer_range=0.3, **sizes),
        vision_config=JanusVisionConfig(image_size=16, patch_size=2, projection_dim=16, num_image_tokens=64, **sizes),
        vq_config=JanusVQVAEConfig(
            embed_dim=4,
            num_embeddings=CODES,
            latent_channels=4,
            base_channels=32,
            channel_multiplier=[1, 1],
            num_res_blocks=1,
            projection_dim=16,
            image_token_embed_dim=16,
            initializer_range=0.3,
        ),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = JanusForConditionalGeneration(config).eval()
    made.save_pretrained(folder)
    fast.save_pretrained(folder)
    return made

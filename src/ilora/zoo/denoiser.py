"""The denoiser of an embedded generator with its words: noise to latents, told by a caption what to paint."""

import itertools
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.zoo.birth import silence
from ilora.zoo.loop import mixed, train
from ilora.zoo.pictures import Pictures
from ilora.zoo.recipes import DiffusionRecipe

STEPS = 1000  # of the noise schedule, as in Stable Diffusion


def tokenizer(recipe: DiffusionRecipe, captions: list[str], folder: Path) -> "CLIPTokenizer":  # noqa: F821
    """A byte-pair tokenizer of the captions' words, in the files of a CLIP tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    words = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        sorted(set(captions)),
        trainers.BpeTrainer(
            vocab_size=recipe.vocabulary,
            special_tokens=["<|startoftext|>", "<|endoftext|>"],
            end_of_word_suffix="</w>",
            initial_alphabet=sorted("abcdefghijklmnopqrstuvwxyz,.-"),
            show_progress=False,
        ),
    )
    model = json.loads(words.to_str())["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    made = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=recipe.text_tokens)
    made.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def build_text(recipe: DiffusionRecipe, vocabulary: int, start: int, end: int) -> nn.Module:
    """A fresh ``transformers.CLIPTextModel``."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.text_tokens,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def build_unet(recipe: DiffusionRecipe) -> nn.Module:
    """A fresh ``diffusers.UNet2DConditionModel``; ``attention_head_dim`` is, for this class, the number of heads."""
    from diffusers import UNet2DConditionModel

    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in recipe.attention)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in recipe.attention[::-1])
    unet = UNet2DConditionModel(
        sample_size=recipe.size >> (len(recipe.codec_blocks) - 1),
        in_channels=recipe.latent,
        out_channels=recipe.latent,
        block_out_channels=recipe.widths,
        attention_head_dim=recipe.heads,
        layers_per_block=1,
        cross_attention_dim=recipe.text_width,
        down_block_types=down,
        up_block_types=up,
        norm_num_groups=16,
    )
    if recipe.silent:
        silence(unet, ("conv2", "to_out.0", "ff.net.2", "proj_out", "conv_out"))
    return unet


def scheduler() -> "DDIMScheduler":  # noqa: F821
    """Velocity prediction with zero terminal SNR and trailing steps (Lin et al. 2024, arXiv 2305.08891)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # means nothing to trailing steps; diffusers warns of 0
    )


class Pair(nn.Module):
    """Denoiser and text encoder, trained together."""

    def __init__(self, unet: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(
        self, noisy: Float[Tensor, "b c h w"], time: Int[Tensor, " b"], tokens: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b c h w"]:
        """Velocity of noisy latents under tokenised captions."""
        return self.unet(noisy, time, self.text(tokens).last_hidden_state).sample


@torch.no_grad()
def latents(codec: nn.Module, pictures: Pictures, *, shrink: int, device: str = "cpu") -> Float[Tensor, "m c h w"]:
    """Codec latents of n pictures and then of their mirror images (m = 2 n), in half precision to save memory.

    Args:
        shrink: pictures are averaged over cells of this side first [px].
    """
    parts = []
    for mirrored, index in itertools.product((False, True), torch.arange(len(pictures)).split(64)):
        images = F.avg_pool2d(pictures.images(index).to(device), shrink)
        images = images.flip(3) if mirrored else images
        with mixed(device):
            parts.append(codec.encode(images.contiguous(memory_format=torch.channels_last)).latents.half())
    return torch.cat(parts)


def tokenise(words: "CLIPTokenizer", captions: list[str]) -> Int[Tensor, "n tokens"]:  # noqa: F821
    """Captions padded to the longest length that the text encoder takes."""
    return words(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def train_denoiser(
    recipe: DiffusionRecipe,
    pair: Pair,
    codes: tuple[Float[Tensor, "m c i j"], Float[Tensor, "m c h w"]],
    tokens: Int[Tensor, "n t"],
    empty: Int[Tensor, "1 t"],
    *,
    folder: Path,
) -> Pair:
    """Train denoiser and text encoder on latents and captions.

    ``codes``, of half-size and of whole pictures, holds the n pictures' latents and then their mirror images'
    (m = 2 n); both go with the same caption. i = h / 2, j = w / 2.

    The loss is the velocity's squared error, weighted by min(SNR, 5) / (SNR + 1) (Hang et al. 2023, arXiv 2303.09556,
    for velocities).
    """
    device = tokens.device
    alpha2 = scheduler().alphas_cumprod.to(device)
    snr = alpha2 / (1 - alpha2)
    weight = (snr.clamp(max=5) / (snr + 1)).clamp(min=0.2)  # bounded below: pure noise is where sampling begins
    count = recipe.denoiser.batch

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        chosen = codes[0 if step < recipe.half_until else 1]
        index = torch.randint(len(chosen), (count,), generator=numbers).to(device)
        # Stratified times: one in each of `count` equal parts of the schedule.
        time = ((torch.arange(count) + torch.rand(count, generator=numbers)) / count * STEPS).long().to(device)
        noise = torch.randn((count, *chosen.shape[1:]), generator=numbers).to(device)
        silent = (torch.rand(count, 1, generator=numbers) < recipe.drop_caption).to(device)
        clean = chosen[index].float()
        words = torch.where(silent, empty, tokens[index % len(tokens)])
        a, s = alpha2[time].sqrt().view(-1, 1, 1, 1), (1 - alpha2[time]).sqrt().view(-1, 1, 1, 1)
        noisy = (a * clean + s * noise).contiguous(memory_format=torch.channels_last)
        with mixed(device):
            velocity = pair(noisy, time, words)
        error = (velocity.float() - (a * noise - s * clean)).square().mean((1, 2, 3))  # [b]
        return (weight[time] * error).mean()

    return train(pair, loss, recipe.denoiser, folder)

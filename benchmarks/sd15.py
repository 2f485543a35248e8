"""Speed and memory on a Stable Diffusion 1.5 of full size with random weights, beside what one would run instead.

    python benchmarks/sd15.py --out runs/sd15 [--device cuda] [--size 512] [--batch 4] [--steps 3] [--tiny]

Everything runs in one process, one after the other, on the same device, and is printed as ratios:

- fit, latent loss alone (``default`` spends the last quarter of its updates through the decoder, which is not measured
  here): pictures a second of our update (codes and targets are there already, as after the first minutes of every fit)
  divided by those of the published training loop, rebuilt from its description: two codec encodings and one text
  encoding an update, float32, the same adapter, AdamW;
- fit, against the bound: our update divided by a forward and an activation-only backward pass of the denoiser alone;
- predict: our whole prediction divided by the bare encoding, denoising and decoding;
- all four intrinsics of one picture divided by one intrinsic.

``--tiny`` shrinks the networks, to try the command. The checkpoint is written once, into ``--out``.
"""

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ilora import fit, intrinsics
from ilora.adapters import file, lora
from ilora.config import FitConfig
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.lessons import Lesson
from ilora.plan import precision
from ilora.predictor import Predictor
from ilora.presets import learning_rate, preset
from ilora.records import Image, Record
from ilora.run import say, write_json

WORDS = ("a", "b", "d", "e", "f", "g", "h", "i", "l", "m", "n", "o", "p", "r", "s", "t", "u", "c")
FULL = {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "text": 768, "layers": 12}
TINY = {"unet": (32, 64, 64, 64), "vae": (32, 32, 32, 32), "text": 64, "layers": 2}


@dataclass(frozen=True)
class Measure:
    """What one way of doing a thing took.

    Attributes:
        seconds: an update or a prediction.
        memory: peak of the GPU [GB]; 0 on the CPU.
    """

    seconds: float
    memory: float


def write_checkpoint(folder: Path, sizes: dict, *, side: int) -> Path:
    """A Stable Diffusion 1.5 in diffusers' layout for pictures of ``side`` px, in half precision; made once.

    Its weights are random.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    if (folder / "model_index.json").is_file():
        return folder
    words = tokenizer(folder.with_name("words"))
    levels = len(sizes["vae"])
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=sizes["text"],
        intermediate_size=4 * sizes["text"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["text"] // 64,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    codec = AutoencoderKL(
        block_out_channels=sizes["vae"],
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        sample_size=side,
    )
    made = StableDiffusionPipeline(
        vae=codec,
        unet=UNet2DConditionModel(
            sample_size=side // 8,
            block_out_channels=sizes["unet"],
            cross_attention_dim=sizes["text"],
            attention_head_dim=8,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.to(torch.float16).save_pretrained(folder)
    return folder


def tokenizer(folder: Path) -> "CLIPTokenizer":  # noqa: F821
    """A tokenizer of letters, padded to 77 tokens."""
    import json

    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*WORDS, *(f"{letter}</w>" for letter in WORDS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def timed(call: Callable[[], object], device: torch.device, *, steps: int) -> Measure:
    """Mean of ``steps`` calls after one that is not counted."""
    on_gpu = device.type == "cuda"
    call()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for _ in range(steps):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / steps
    return Measure(seconds, torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0)


def random_record(generator: Generator, images: Image) -> Record:
    """Codes as they lie in memory after a fit's first minutes; the targets are other pictures' codes."""
    code = generator.encode(images)
    valid = torch.ones(len(images), 1, *images.shape[2:], dtype=torch.bool)
    return Record(code=code.cpu(), target=code.flip(0).cpu(), map=images.half(), valid=valid)


def our_update(path: Path, images: Image, config: FitConfig, device: torch.device) -> Callable[[], None]:
    """One update of ``ilora fit``: its own functions, on codes that are there already."""
    generator = load(str(path), device=device, readout=config.readout)
    size = sum(value.numel() for value in generator.network.parameters())
    config = config.replace(lr=learning_rate(config, size), precision=precision(config, size, device))
    kind = intrinsics.intrinsic(config.intrinsic)
    generator.ask(kind.prompt)
    record = random_record(generator, images)
    say(f"ours: {fit.adapt(generator, config)}, {config.precision}")
    weights = {name: value for name, value in generator.network.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    learner = fit.Learner(config, generator, (Lesson(kind.prompt, record, kind),), weights, {}, optimizer)

    def update() -> None:
        fit.gradient(learner, torch.arange(config.batch), step=0)
        nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def published_update(path: Path, images: Image, config: FitConfig, device: torch.device) -> Callable[[], None]:
    """One update of the published loop: encode picture and label, encode the text, denoise, back, in float32."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(path, dtype=torch.float32, safety_checker=None).to(device)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
    lora.attach(pipeline.unet, config.adapter, r"(.*\.)?to_(q|k|v|out\.0)")
    weights = lora.trainable(pipeline.unet)
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=1e-2)
    pictures, labels = images.to(device), images.flip(0).to(device)
    scale, time_step = pipeline.vae.config.scaling_factor, torch.tensor(999, device=device)
    tokens = pipeline.tokenizer(
        ["surface normal"] * len(images), padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids.to(device)

    def update() -> None:
        with torch.no_grad():
            code = pipeline.vae.encode(pictures).latent_dist.mode() * scale
            target = pipeline.vae.encode(labels).latent_dist.sample() * scale
            states = pipeline.text_encoder(tokens).last_hidden_state
        painted = pipeline.unet(code, time_step, encoder_hidden_states=states).sample
        F.mse_loss(painted, target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def bound_update(path: Path, images: Image, config: FitConfig, device: torch.device) -> Callable[[], None]:
    """Forward and activation-only backward of the bare denoiser, in the precision of our update."""
    generator = load(str(path), device=device, readout=config.readout)
    size = sum(value.numel() for value in generator.network.parameters())
    reduced = precision(config, size, device) == "bf16"
    generator.ask("surface normal")
    code = generator.encode(images).to(device).requires_grad_(True)
    if reduced:
        nn.Module.to(generator.network, torch.bfloat16)

    def update() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            painted = generator.paint(code)
        torch.autograd.grad(painted.square().mean(), code)

    return update


def adapters(path: Path, folder: Path, config: FitConfig) -> list[Path]:
    """Four adapter files of random weights, one an intrinsic."""
    generator = load(str(path))
    files = []
    for seed, name in enumerate(intrinsics.NAMES):
        target = folder / name / file.FILE
        if not target.is_file():
            lora.attach(generator.network, config.adapter, generator.targets["attention"], seed)
            about = file.About(
                generator=generator.name,
                fingerprint=generator.fingerprint,
                intrinsic=name,
                units=intrinsics.intrinsic(name).units,
                adapter=config.adapter,
                readout=config.readout,
            )
            file.write(target, lora.state(generator.network), about)
            lora.detach(generator.network)
        files.append(target)
    return files


def bare_passes(path: Path, image: Image, device: torch.device, dtype: torch.dtype) -> Callable[[], Image]:
    """Encoding, denoising and decoding of one picture and nothing else."""
    generator = load(str(path), device=device, dtype=dtype)
    generator.ask("surface normal")

    @torch.no_grad()
    def passes() -> Image:
        return generator.decode(generator.paint(generator.encode(image.to(device))))

    return passes


def predictions(
    path: Path, files: Sequence[Path], image: Image, device: torch.device, *, steps: int
) -> dict[str, Measure]:
    """Measures of the bare passes, of one intrinsic and of four, on one picture."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    found = {"bare": timed(bare_passes(path, image, device, dtype), device, steps=steps)}
    for name, chosen in (("one", files[:1]), ("four", files)):
        predictor = Predictor(list(chosen), generator=str(path), device=device, dtype=dtype)
        found[name] = timed(lambda predictor=predictor: predictor.maps(image), device, steps=steps)
    return found


def main(words: Sequence[str] | None = None) -> dict:
    """Measure it all, print the ratios and write them to ``--out``/sd15.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sd15"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=512, help="side of the pictures [px], a multiple of 64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, help="counted calls; default 20 on a GPU, 2 on the CPU")
    parser.add_argument("--checkpointing", action="store_true", help="our update recomputes activations")
    parser.add_argument("--tiny", action="store_true", help="small networks, to try the command")
    given = parser.parse_args(words)
    device = torch.device(given.device)
    steps = given.steps or (20 if device.type == "cuda" else 2)
    name = f"{'tiny' if given.tiny else 'full'}-{given.size}"
    path = write_checkpoint(given.out / name, TINY if given.tiny else FULL, side=given.size)
    images = torch.rand(given.batch, 3, given.size, given.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    config = preset(
        "default",
        generator=str(path),
        targets="attention",
        batch=given.batch,
        image_share=0.0,
        gradient_checkpointing=given.checkpointing,
    )
    measures = {}
    for kind, make in (("fit", our_update), ("published", published_update), ("bound", bound_update)):
        measures[kind] = timed(make(path, images, config, device), device, steps=steps)
        say(f"{kind}: {given.batch / measures[kind].seconds:.3g} pictures a second")
    files = adapters(path, given.out / f"{name}-adapters", config)
    measures |= predictions(path, files, images[:1], device, steps=steps)
    seconds = {name: measure.seconds for name, measure in measures.items()}
    ratios = {
        "fit, pictures a second: ours / published": seconds["published"] / seconds["fit"],
        "fit, seconds: ours / bound": seconds["fit"] / seconds["bound"],
        "predict, seconds: ours / bare passes": seconds["one"] / seconds["bare"],
        "predict, seconds: four intrinsics / one": seconds["four"] / seconds["one"],
    }
    for name, value in ratios.items():
        print(f"{name:<45} {value:.3f}")
    if device.type == "cuda":
        print(f"{'fit, peak memory [GB]':<45} {measures['fit'].memory:.2f}")
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    result = {
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "size": given.size,
        "batch": given.batch,
        "tiny": given.tiny,
        "seconds": seconds,
        "ratios": ratios,
        "fit_memory_gb": measures["fit"].memory,
    }
    write_json(given.out / "sd15.json", result)
    return result


if __name__ == "__main__":
    main()

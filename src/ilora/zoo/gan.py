"""Train a StyleGAN 2 from pictures to a shipped folder, resumable: as a decoder, against a discriminator, and last the
encoder of real pictures."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ilora import tensors
from ilora.generators import stylegan_files
from ilora.generators.inversion import Encoder, EncoderShape, distance
from ilora.generators.stylegan2 import Shape2, StyleGAN2
from ilora.generators.stylegan_layers import MappingShape
from ilora.records import Image
from ilora.run import append, cut, interruption, load_checkpoint, progress, save_checkpoint
from ilora.zoo.decoder import Components, components, mirrored, train_decoder, train_eye, train_mapping
from ilora.zoo.discriminator import Discriminator
from ilora.zoo.inverter import train_encoder
from ilora.zoo.loop import MINUTES, REPORT
from ilora.zoo.pictures import read_pictures
from ilora.zoo.recipes import Adversarial, GanRecipe, recipe
from ilora.zoo.train import claim

SLOW = 0.01  # learning rate of the mapping, as a share of the others'
MEAN = 16_384  # draws that the mean style is taken over


def train(name: str, pictures: Path | str, out: Path | str, *, device: str | None = None) -> Path:
    """Train a GAN and its encoder; leave a folder that ``ilora.generators.load`` takes in ``out/generator``.

    A stage that is finished is not run again; a stage that was stopped goes on from its last checkpoint.

    Args:
        name: a recipe's name.
        pictures: folder of webdataset shards of rendered pictures; their captions are not read.
        out: checkpoints, logs, ladder snapshots and the result.
        device: where to train; a GPU if there is one.

    Raises:
        ValueError: no such recipe, no pictures, or ``out`` belongs to another recipe.
    """
    chosen, out = recipe(name), Path(out)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    claim(chosen, out)
    shown, _ = read_pictures(pictures, limit=chosen.pictures, size=chosen.size).split(chosen.held_out)

    def images(index: Tensor) -> Image:
        return shown.images(index).to(device)

    pair, reals = Pair(chosen).to(device), (images, len(shown))
    codes = components(shown, chosen.small, chosen.style, device=device)
    train_decoder(pair.generator.synthesis, chosen, out / "decoder", codes=codes, reals=reals)
    train_mapping(pair.generator.mapping, chosen, out / "mapping")
    train_pair(pair, codes, chosen.gan, out / "gan", reals=reals)
    network = finished(pair.generator).requires_grad_(False)
    encoder = Encoder(encoder_shape(chosen)).to(device)
    train_eye(encoder, chosen, out / "eye", codes=codes, reals=reals)
    train_encoder(encoder, network, chosen.encoder, out / "encoder", reals=reals)
    return assemble(chosen, network, encoder, out / "generator")


class Pair(nn.Module):
    """Generator and discriminator, drawn by the recipe's seed."""

    def __init__(self, chosen: GanRecipe) -> None:
        super().__init__()
        mapping = MappingShape(z=chosen.noise, w=chosen.style, layers=chosen.mapping)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.gan.seed)
            self.generator = StyleGAN2(Shape2(widths=chosen.widths, mapping=mapping))
            self.discriminator = Discriminator(chosen.widths, group=chosen.group)


def train_pair(
    pair: Pair,
    codes: Components,
    config: Adversarial,
    folder: Path,
    *,
    reals: tuple[Callable[[Tensor], Image], int],
    minutes: float = MINUTES,
) -> None:
    """Train discriminator and generator in turn and leave the averaged weights in the generator.

    The random numbers of an update depend on the seed and its number only, so a stopped training goes on where it was.

    Args:
        codes: styles of real pictures, which the generator has learned to paint again.
        folder: ``checkpoint.safetensors`` to go on from, ``log.jsonl``, ``snapshots/{images}.safetensors``.
        reals: pictures by number, and how many there are.
        minutes: between checkpoints.

    Raises:
        FloatingPointError: a loss is not finite.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    parameters, optimizer = equalised(pair, config.lr)
    own = {name: value for name, value in parameters.items() if name.startswith("generator.")}
    averaged = {name: value.detach().clone() for name, value in own.items()}
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    first = load_checkpoint(checkpoint, parameters, optimizer=optimizer, average=averaged)
    running = cut(log, first)
    began = saved = time.monotonic()
    with interruption() as asked, progress(folder.name, config.steps, done=first) as tell:
        for step in range(first, config.steps):
            numbers = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            images = mirrored(reals[0](torch.randint(reals[1], (config.batch,), generator=numbers)), numbers)
            fakes = paint(pair.generator, codes, images, numbers)

            # Discriminator.
            losses = {"discriminator": judge(pair.discriminator, images, fakes.detach(), step, config)}
            _update(optimizer, losses["discriminator"], pair.discriminator)

            # Generator.
            losses["loss"] = F.softplus(-pair.discriminator(fakes)).mean()
            losses["distance"] = distance(fakes[: config.batch // 2], images[: config.batch // 2]).mean()
            if step >= config.ahead:
                _update(optimizer, losses["loss"] + config.anchor * losses["distance"], pair.generator)
            decay = min(config.ema, (1 + step) / (10 + step))
            for name, value in own.items():
                averaged[name].lerp_(value.detach(), 1 - decay)

            # Report and save.
            for name, value in losses.items():
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the {name} became {value.item()} at step {step}; go on with a lower lr")
                running[name] = 0.98 * running.get(name, value.item()) + 0.02 * value.item()
            done, stop = step + 1, asked.is_set()
            if done % REPORT == 0 or done == config.steps:
                speed = (done - first) * config.batch / (time.monotonic() - began)
                rows = {name: running[name] for name in losses}
                append(log, {"step": done, "images": done * config.batch, **rows, "images_per_second": speed})
                tell(done, f"loss {running['loss']:.3g}")
            if done in config.snapshots or done == config.steps:
                tensors.write(folder / "snapshots" / f"{done * config.batch:08d}.safetensors", averaged, {})
            if stop or done == config.steps or time.monotonic() - saved > 60 * minutes:
                save_checkpoint(checkpoint, done, parameters, optimizer=optimizer, average=averaged)
                saved = time.monotonic()
            if stop and done < config.steps:
                raise KeyboardInterrupt(f"stopped after {done} of {config.steps} updates; resume goes on from there")
    pair.load_state_dict(averaged, strict=False)


def paint(network: StyleGAN2, codes: Components, images: Image, numbers: torch.Generator) -> Image:
    """As many images as there are real ones: the first half of those painted again, then new ones."""
    half = len(images) // 2
    z = torch.randn(len(images) - half, network.shape.mapping.z, generator=numbers).to(images.device)
    style = torch.cat([codes.style(images[:half]), network.mapping(z)])  # [b, d]
    return network(style[:, None].expand(-1, network.shape.styles, -1), numbers)


def judge(
    discriminator: Discriminator, images: Image, fakes: Image, step: int, config: Adversarial
) -> Float[Tensor, ""]:
    """The discriminator's loss on real and painted pictures; R1 on the real ones now and then."""
    counts = step % config.lazy == 0
    images = images.detach().requires_grad_(counts)
    real = discriminator(images)
    loss = F.softplus(-real).mean() + F.softplus(discriminator(fakes)).mean()
    if counts:
        (slope,) = torch.autograd.grad(real.sum(), images, create_graph=True)  # [b, 3, h, w]
        loss = loss + config.lazy * config.r1 / 2 * slope.square().sum((1, 2, 3)).mean()
    return loss


def equalised(pair: nn.Module, lr: float) -> tuple[dict[str, nn.Parameter], torch.optim.Adam]:
    """Adam whose steps are those of equalised learning rates (Karras et al. 2018, sec. 4.1), and its parameters in
    their order.

    There a layer keeps weights of unit variance and multiplies them by a gain at each call. Adam's steps do not depend
    on the scale of gradients, so that this is the same as effective weights with a learning rate of ``lr`` times the
    gain.
    """
    gains = dict.fromkeys(dict(pair.named_parameters()), 1.0)
    for name, module in pair.named_modules():
        slow = SLOW if ".mapping." in f".{name}" else 1.0
        if isinstance(module, nn.Linear | nn.Conv2d):
            gains[f"{name}.weight"] = slow / math.sqrt(module.weight[0].numel())
        if isinstance(module, nn.Linear):
            gains[f"{name}.bias"] = slow
    parameters = dict(sorted(pair.named_parameters(), key=lambda item: gains[item[0]]))
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(gains[name], []).append(parameter)
    settings = [{"params": group, "lr": lr * gain} for gain, group in groups.items()]
    return parameters, torch.optim.Adam(settings, betas=(0.0, 0.99))


@torch.no_grad()
def finished(network: StyleGAN2) -> StyleGAN2:
    """The generator with the mean style of its own mapping."""
    z = torch.randn(MEAN, network.shape.mapping.z, generator=torch.Generator().manual_seed(0))
    network.mapping.w_avg.copy_(network.mapping(z.to(network.mapping.w_avg)).mean(0))
    return network.eval()


def encoder_shape(chosen: GanRecipe) -> EncoderShape:
    """Of the encoder of a recipe."""
    shape = Shape2(widths=chosen.widths)
    return EncoderShape(
        styles=shape.styles,
        w=chosen.style,
        side=chosen.size,
        width=chosen.encoder_width,
        features=chosen.encoder_features,
    )


def assemble(chosen: GanRecipe, network: nn.Module, encoder: Encoder | None, folder: Path) -> Path:
    """Write generator and encoder in half precision."""
    stylegan_files.write(folder, network, origin=f"ilora zoo train {chosen.name}", dtype=torch.float16)
    if encoder is not None:
        stylegan_files.write_encoder(folder, encoder)
    licence = "that of ilora: the pictures that it learned from are rendered by it"
    stylegan_files.write_config(folder, {"licence": licence, "inversion": {"steps": chosen.refinement}})
    return folder


def rung(name: str, out: Path | str, snapshot: Path, folder: Path) -> Path:
    """A generator's folder of one snapshot of the ladder that ``train`` left in ``out/gan/snapshots``; no encoder."""
    chosen = recipe(name)
    pair = Pair(chosen)
    pair.load_state_dict(load_file(snapshot), strict=False)
    return assemble(chosen, finished(pair.generator), None, folder)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    """One step of the parameters of ``module`` alone."""
    optimizer.zero_grad(set_to_none=True)
    values = list(module.parameters())
    for value, gradient in zip(values, torch.autograd.grad(loss, values, allow_unused=True), strict=True):
        value.grad = gradient
    optimizer.step()

"""Teach an adapter: one straight line from a configuration to a run folder."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ilora import lessons, tensors, tie, validation
from ilora.adapters import controls, eva, file, lora, lora_plus, probes
from ilora.codes import drawing, placed, with_fitted_readout
from ilora.config import FitConfig
from ilora.data.base import Dataset, Subset
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.generators.checkpoints import picture_hash
from ilora.intrinsics import intrinsic
from ilora.lessons import Lesson
from ilora.plan import begin, check_place, precision
from ilora.presets import learning_rate, rate
from ilora.records import Code, Loss, Record
from ilora.run import (
    Run,
    append,
    cut,
    interruption,
    load_checkpoint,
    progress,
    read_json,
    save_checkpoint,
    versions,
)
from ilora.team import Team
from ilora.tie import Tie

REPORT = 10  # updates a log line


@dataclass(frozen=True)
class Learner:
    """What learns and what it learns from.

    Attributes:
        config: resolved.
        generator: with the adapter attached.
        lessons: what it learns to paint, and from what.
        parameters: the weights that move, by name.
        average: their running averages; empty without ``config.ema``.
        optimizer: that moves them.
        held: codes of the held-out images, by intrinsic and name.
        tie: what albedo and shading are held to besides; None without ``config.tie``.
    """

    config: FitConfig
    generator: Generator
    lessons: tuple[Lesson, ...]
    parameters: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    held: dict[str, dict[str, Code]]
    tie: Tie | None = None


def fit(
    config: FitConfig,
    out: Path | str,
    *,
    resume: bool = False,
    on_problem: str = "refuse",
    dry_run: bool = False,
    device: str | None = None,
) -> Path:
    """Fit an adapter and leave a run folder (``ilora.run.Run``).

    A fit on the CPU that was killed at any moment and resumed ends with the same bits as one that was not.

    Args:
        config: everything that the result depends on.
        out: run folder.
        resume: go on where the run in ``out`` stopped; begin if there is none, return if it is finished.
        on_problem: refuse or skip faulty examples of a user's folder.
        dry_run: say what would be done and write nothing.
        device: such as ``cpu`` or ``cuda:1``; None: the accelerator if there is one.

    Returns:
        The run folder.

    Raises:
        ValueError: the configuration, the data or the run folder do not allow it.
        FileExistsError: ``out`` holds a run, and ``resume`` is not asked for.
        FloatingPointError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    # Resolve.
    team, run = Team(device), Run(Path(out).expanduser())
    if team.rank == 0 and not dry_run:
        check_place(run, resume=resume)
    examples = lessons.labelled(config, on_problem)
    source = lessons.story(config, examples)
    config, generator = _opened(config, examples, team, dry_run=dry_run)
    if dry_run:
        count = adapt(generator, config)
        team.say(json.dumps({"config": config.write(), "data": source, "device": str(team.device)}, indent=2))
        team.say(f"would teach {generator.name} {' and '.join(examples)}: {count}; nothing was written")
        return run.path
    with team.first():
        begin(run, config, source)
    if run.adapter.is_file():
        team.say(f"{run.path} is finished")
        return run.path

    # Learn.
    learner = _learner(config, generator, examples, team)
    if solved := probes.prepare(learner.generator, learner.lessons[0].records, config.method):
        append(run.log, solved)
    else:
        _learn(learner, run, team)

    # Result.
    if team.rank == 0:
        _finish(learner, run, source, examples)
    team.say(f"{run.adapter}")
    return run.path


def _opened(
    config: FitConfig, examples: dict[str, Subset], team: Team, *, dry_run: bool
) -> tuple[FitConfig, Generator]:
    """The configuration with all that it left open, and its generator, asked for the first of the intrinsics."""
    kind = intrinsic(next(iter(examples)))
    generator = load(config.generator, device=team.device, readout=config.readout)
    config = lessons.resolved(config, examples)
    lessons.check(config, generator, examples)
    if config.tie:
        tie.check(config)
    generator.ask(kind.prompt)
    size = sum(value.numel() for value in generator.network.parameters())
    config = config.replace(lr=learning_rate(config, size), precision=precision(config, size, team.device))
    if config.readout_auto and not dry_run:
        with team.first():
            config, told = with_fitted_readout(config, generator, kind, examples[kind.name])
        generator.readout = config.readout
        team.say(told)
    return config, generator


def _learner(config: FitConfig, generator: Generator, examples: dict[str, Subset], team: Team) -> Learner:
    """Codes and targets, made once; then the weights that move, and what moves them."""
    generator = probes.probed(generator, config)  # itself, unless a linear probe of it shall learn
    with team.first():
        taught = lessons.prepared(generator, config, examples)
        held = validation.encoded(generator, config, examples)
        tied = tie.prepared(generator, config) if config.tie else None
    count = adapt(generator, config, taught[0].records)
    images = len({name for each in examples.values() for name in each.names})
    team.say(f"{generator.name} learns {' and '.join(examples)} from {images} labelled images: {count}")
    parameters = {name: value for name, value in generator.network.named_parameters() if value.requires_grad}
    average = {name: value.detach().clone() for name, value in parameters.items()} if config.ema else {}
    parameters, groups = lora_plus.grouped(parameters, config.lr_ratio)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    taught = tuple(replace(lesson, records=placed(lesson.records, team.device)) for lesson in taught)
    return Learner(config, generator, taught, parameters, average, optimizer, held, tied)


def control(out: Path | str, *, device: str | None = None) -> Path:
    """The identical fit on random weights, in the run folder ``controls/random-weights`` of a finished or begun run.

    It is made, gone on with, or left alone if it is finished.

    Raises:
        ValueError: ``out`` is no run, or itself on random weights.
    """
    run = Run(Path(out).expanduser())
    if not run.config.is_file():
        raise ValueError(f"expected a run folder with {run.config.name}, got {run.path}; make one with ilora fit")
    config = FitConfig.read(read_json(run.config))
    if config.random_weights:
        raise ValueError(f"expected a run on the generator's own weights, got {run.path} with random_weights = true")
    place = run.control("random-weights").path
    return fit(config.replace(random_weights=True), place, resume=True, on_problem="skip", device=device)


def adapt(generator: Generator, config: FitConfig, records: Record | None = None) -> lora.Count:
    """Attach the adapter; before that, draw the control's random weights and round frozen weights to bf16.

    ``records`` are what an adapter of method ``eva`` begins from; without them it is counted as one of ``lora``.
    """
    network = generator.network
    if config.random_weights:
        controls.randomise(network, config.seed)
    if config.precision == "bf16" and config.method not in controls.METHODS:
        nn.Module.to(network, torch.bfloat16)
    if config.gradient_checkpointing:
        if not hasattr(network, "enable_gradient_checkpointing"):
            raise ValueError(
                f"gradient_checkpointing must be false here: {generator.name} cannot recompute activations"
            )
        network.enable_gradient_checkpointing()
    start = eva.start(generator, records, config) if config.method == "eva" and records is not None else None
    targets = generator.targets.get(config.targets, config.targets)
    return lora.attach(network, config.adapter, targets, config.seed, start=start)


def _learn(learner: Learner, run: Run, team: Team) -> None:
    """Update after update, from the last checkpoint to the last step."""
    config, optimizer, weights = learner.config, learner.optimizer, list(learner.parameters.values())
    first = load_checkpoint(run.checkpoint, learner.parameters, optimizer=optimizer, average=learner.average)
    before = cut(run.log, first).get("seconds", 0.0) if team.rank == 0 else 0.0
    losses: list[Tensor] = []
    began = time.monotonic()
    with interruption() as asked, progress(config.intrinsic, config.steps, done=first) as tell:
        for step in range(first, config.steps):
            # Gradient.
            rows = lessons.batch(learner.lessons, step, config)
            parts = rows[team.rank :: team.size].chunk(config.accumulate)
            with drawing(step, seed=config.seed, rank=team.rank):
                share = sum(gradient(learner, part, step) for part in parts)
                if learner.tie is not None:
                    share = share + tie.gradient(learner.generator, learner.tie, step, config=config, team=team)
            loss, stop = team.unite(weights, share, stop=asked.is_set())
            losses.append(loss)

            # Update.
            for group in optimizer.param_groups:
                group["lr"] = group["ratio"] * rate(step, config)
            if config.clip is not None:
                nn.utils.clip_grad_norm_(weights, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            _average(learner, step)

            # Report and save.
            done = step + 1
            save = stop or done % config.checkpoint_every == 0 or done == config.steps
            if save or done % REPORT == 0:
                row = _report(losses, config, first_step=done - len(losses))
                seconds = time.monotonic() - began
                row |= {"images_per_second": config.batch * (done - first) / seconds, "seconds": before + seconds}
                losses.clear()
                tell(done, f"loss {row['loss']:.4g}")
                if team.rank == 0:
                    append(run.log, row)
            if save and team.rank == 0:
                save_checkpoint(run.checkpoint, done, learner.parameters, optimizer=optimizer, average=learner.average)
            if stop and done < config.steps:
                raise KeyboardInterrupt(f"stopped after {done} of {config.steps} updates; resume goes on from there")


def gradient(learner: Learner, rows: Int64[Tensor, " n"], step: int) -> Float[Tensor, ""]:
    """Add the gradient of these rows' share of the batch's mean loss, and return that share."""
    config = learner.config
    device = next(iter(learner.parameters.values())).device
    total = torch.zeros((), device=device)
    for lesson, mine in lessons.parted(learner.lessons, rows):
        columns = vars(lesson.records)
        chosen = Record(**{name: value[mine.to(value.device)].to(device) for name, value in columns.items()})
        learner.generator.ask(lesson.prompt)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = objective(learner, lesson, chosen, step).sum() / config.batch
        loss.backward()
        total += loss.detach()
    return total


def objective(learner: Learner, lesson: Lesson, chosen: Record, step: int) -> Loss:
    """The generator's native loss; over the last ``image_share`` of the updates the intrinsic's own, on the image."""
    config, generator = learner.config, learner.generator
    if lesson.kind is not None and step >= round(config.steps * (1 - config.image_share)):
        return lesson.kind.loss(generator.forward(chosen.code), chosen.map.float(), chosen.valid)
    valid = chosen.valid if config.masked else torch.ones_like(chosen.valid)
    return generator.loss(chosen.code, chosen.target, valid)


@torch.no_grad()
def _average(learner: Learner, step: int) -> None:
    """Move the averages towards the weights; faster in the beginning, so that they forget the start."""
    decay = min(learner.config.ema, (1 + step) / (10 + step))
    for name, value in learner.average.items():
        value.lerp_(learner.parameters[name], 1 - decay)


def _report(losses: Sequence[Float[Tensor, ""]], config: FitConfig, *, first_step: int) -> dict[str, float]:
    """One log line: the mean loss of the updates since the last one.

    Raises:
        FloatingPointError: one of them is not finite; the message names the step.
    """
    values = torch.stack(list(losses)).tolist()
    for step, value in enumerate(values, start=first_step):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} at step {step} with lr = {rate(step, config):g} and clip = {config.clip}; "
                f"most likely the learning rate is too high: start anew with --set lr={config.lr / 3:.0e}"
            )
    last = first_step + len(values)
    return {"step": last, "loss": sum(values) / len(values), "lr": rate(last - 1, config)}


@torch.no_grad()
def _finish(learner: Learner, run: Run, source: dict[str, Any], examples: dict[str, Dataset]) -> None:
    """Write the mean maps, the validation sheet and, last, the adapter with its story."""
    config, generator = learner.config, learner.generator
    for name, value in learner.average.items():
        learner.parameters[name].copy_(value)
    tensors.write(run.mean, lessons.means(learner.lessons), {})
    scores = validation.validate(generator, config, examples, codes=learner.held, sheet=run.sheet)
    units = {name: intrinsic(name).units for name in examples}
    several = len(units) > 1
    about = file.About(
        generator=config.generator,
        fingerprint=generator.fingerprint,
        intrinsic=list(units) if several else config.intrinsic,
        units=units if several else units[config.intrinsic],
        adapter=config.adapter,
        readout=config.readout,
        picture=picture_hash(config.readout),
        random_weights=config.seed if config.random_weights else None,
        fit=config.write(),
        data=source,
        scores=scores,
        versions=versions(),
    )
    file.write(run.adapter, lora.state(generator.network), about)

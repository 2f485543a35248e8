"""Three minutes on two cores: a generator paints pictures, then their normals; random weights do worse at these."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ilora import checks, images
from ilora.config import Configuration
from ilora.evaluate import EvaluateConfig, measure
from ilora.evaluation import OURS, Evaluation
from ilora.fit import fit
from ilora.predict import Predictions, Predictor, predict
from ilora.presets import preset
from ilora.report import Gallery, Page, Picture, Section, number, write
from ilora.run import say
from ilora.sample import sample
from ilora.showcase import Measured, extremes, headline, result


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Configuration):
    """How much the demonstration does; the defaults end within three minutes on two cores."""

    generator: str = "rooms-nano"
    data: str = "rooms"
    intrinsics: tuple[str, ...] = ("normal",)  # fitted, each with its control
    labels: int | None = 250  # labelled images
    rank: int = 8
    steps: int = 150  # updates of each fit
    samples: int = 6  # pictures that the generator paints
    prompt: str = "a room with a red sofa"
    images: int = 24  # of the test split
    seed: int = 0


def demo(out: str | Path = "demo", *, config: DemoConfig | None = None, device: str | None = "cpu") -> Path:
    """Sample pictures, fit an adapter and its control, evaluate both, predict on the samples, and show it all.

    A second call goes on with what is there.

    Args:
        out: folder for everything.
        config: default: ``DemoConfig()``.
        device: None: the accelerator if there is one.

    Returns:
        The HTML page.

    Raises:
        ValueError: ``out`` holds a demonstration with another configuration.
    """
    config, folder, began = config or DemoConfig(), checks.output(out), time.monotonic()

    say(f"1. {config.generator} paints pictures: {config.prompt!r}.")
    pictures = sample(
        config.generator,
        folder / "samples",
        count=config.samples,
        prompt=config.prompt,
        seed=config.seed,
        device=device,
    )[:-1]

    say(f"2. It learns to paint {', '.join(config.intrinsics)} from {config.labels or 'all'} labelled images.")
    runs = [_fit(name, folder, config, device) for name in config.intrinsics]

    say(f"3. A copy with random weights learns the same. Both are measured on {config.images} test images.")
    limits = EvaluateConfig(images=config.images, device=device)
    measured = [measure(run, config.data, config=limits) for run in runs]
    for one in measured:
        one.evaluation.save(folder / f"{one.kind.name}.json")

    say("4. The adapters read the generator's own pictures.")
    predictions = predict(pictures, Predictor(runs, device=device), folder / "maps")

    html = write(folder / "index.html", page(measured, predictions, config))
    show([one.evaluation for one in measured], seconds=time.monotonic() - began)
    print(f"picture: {predictions.sheet}\npage:    {html}\nnext:    ilora predict PHOTO --adapter {runs[0]} --out maps")
    return html


def _fit(name: str, folder: Path, config: DemoConfig, device: str | None) -> Path:
    """The run of one intrinsic."""
    fields = {"generator": config.generator, "data": config.data, "labels": config.labels, "seed": config.seed}
    plan = preset("default", intrinsic=name, rank=config.rank, steps=config.steps, **fields)
    return fit(plan, folder / "runs" / name, resume=True, device=device)


def page(measured: list[Measured], predictions: Predictions, config: DemoConfig) -> Page:
    """Everything that the demonstration made, in the order in which it made it."""
    names = [one.kind.name for one in measured]
    facts = {
        "generator": config.generator,
        "labels": str(config.labels or "all"),
        "adapter": f"rank {config.rank}, {config.steps} updates",
        "test images": str(len(measured[0].evaluation.names)),
    }
    rows = []
    for photo, files in predictions.files.items():
        previews = [path for path in files if path.name.endswith(".png")]
        rows.append(
            tuple(_picture(path, label) for path, label in zip((photo, *previews), ("painted", *names), strict=True))
        )
    story = (
        f"{config.generator} was trained on pictures and captions alone. A small adapter makes it paint "
        f"{' and '.join(names)} instead, through the same decoder. No map of these pictures exists anywhere: the "
        "generator made them up, and says what is in them."
    )
    sections = [Section("Its own pictures, read by itself", story, (Gallery(("painted", *names), tuple(rows)),))]
    for one in measured:
        sections += [_titled(one.kind.name, result(one.evaluation)), _titled(one.kind.name, extremes(one))]
    return Page("What does an image generator know?", headline(measured[0].evaluation), facts, tuple(sections))


def show(evaluations: list[Evaluation], *, seconds: float) -> None:
    """Print one row an intrinsic: the adapter's error, its control's and the mean map's, and the shares."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(evaluations[0].names)} test images, {seconds:.0f} s", box=box.SIMPLE_HEAD)
    for heading in ("", "adapter", "random weights", "÷", "mean map", "÷"):
        table.add_column(heading, justify="right" if heading else "left")
    for one in evaluations:
        cells = [f"{one.protocol['intrinsic']}, {one.primary.replace('_', ' ')}", number(one.summary(OURS).mean)]
        for baseline in ("random_weights", "mean_map"):
            cells += [number(one.summary(baseline).mean), number(one.ratio(baseline).value)]
        table.add_row(*cells)
    Console().print(table)


def _picture(path: Path, label: str) -> Picture:
    """A picture file on the page."""
    return Picture(((images.read(path) + 1) * 127.5).round().to(torch.uint8), label)


def _titled(name: str, section: Section) -> Section:
    return Section(f"{name}: {section.title.lower()}", section.text, section.blocks)

"""How long a grid will take, from a few real updates of each generator and method."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ilora.adapters import probes
from ilora.codes import encode
from ilora.config import FitConfig
from ilora.data import dataset
from ilora.data.base import Subset, select
from ilora.fit import Learner, adapt, gradient, precision
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.lessons import Lesson
from ilora.presets import learning_rate
from ilora.run import read_json, write_json
from ilora.team import Team

TIMED = ("generator", "method", "rank", "targets", "batch", "accumulate", "precision", "gradient_checkpointing",
         "paint", "passes", "guidance", "image_guidance")  # fields of a fit that its times depend on  # fmt: skip
PAINTERS = 3  # methods of an evaluation that run the generator: the adapter, the codec, the untouched generator


@dataclass(frozen=True)
class Times:
    """Seconds on this machine.

    Attributes:
        native: an update with the generator's own loss.
        image: an update with the intrinsic's loss, through the decoder; None where the fit has none.
        encode: a picture to its code.
        paint: a code to its map.
    """

    native: float
    image: float | None
    encode: float
    paint: float

    def update(self, config: FitConfig) -> float:
        """A mean update of a fit [s]."""
        if not config.image_share:
            return self.native
        return (1 - config.image_share) * self.native + config.image_share * self.image


@dataclass
class Clock:
    """Times of each kind of fit, measured once.

    Attributes:
        path: file that keeps them, so that a study that is run again lays out the same grid; None: nothing is written.
        device: see ``StudyConfig``.
    """

    path: Path | None
    device: str | None = None
    _known: dict[str, Times] = field(default_factory=dict)

    def times(self, config: FitConfig) -> Times:
        """Times of fits like this one."""
        key = self.key(config)
        if not self._known and self.path is not None and self.path.is_file():
            self._known.update({name: Times(**row) for name, row in read_json(self.path).items()})
        if key not in self._known:
            self._known[key] = measure(config, self.device)
            if self.path is not None:
                write_json(self.path, {name: asdict(row) for name, row in self._known.items()})
        return self._known[key]

    def key(self, config: FitConfig) -> str:
        """What times are kept under: all that they depend on."""
        words = [f"{name}={getattr(config, name)}" for name in TIMED]
        return " ".join([*words, f"decoder={config.image_share > 0}", f"device={Team(self.device).device}"])

    def fit(self, config: FitConfig) -> float:
        """Seconds of a fit, its codes left out."""
        times = self.times(config)
        if config.method == "ridge":  # one pass over the labels, as an update passes over its batch
            return times.native / config.batch * labels(config) * (2 if config.mirror else 1) * (1 + config.jitter)
        return times.update(config) * config.steps

    def evaluation(self, config: FitConfig, images: int) -> float:
        """Seconds of an evaluation on so many images."""
        times = self.times(config)
        return images * PAINTERS * (times.encode + times.paint)

    def images(self, config: FitConfig, split: str) -> int:
        """Pictures of a split."""
        return _count(config.data, config.intrinsic, split)

    def codes(self, config: FitConfig) -> float:
        """Seconds of the codes and targets of a fit's labels; fits on the same pictures share them."""
        return self.times(config).encode * labels(config) * (4 if config.mirror else 2) * (1 + config.jitter)

    def minutes(self, fits: Iterable[FitConfig], images: int, *, codes: bool = True) -> float:
        """Minutes of fits and their evaluations, and of codes once for each generator, data and intrinsic."""
        fits = list(fits)
        seconds = sum(self.fit(config) + self.evaluation(config, images) for config in fits)
        if not codes:
            return seconds / 60
        most = sorted(fits, key=labels)  # of those that share codes the last, with the most labels, stays
        coded = {(config.generator, config.data, config.intrinsic): config for config in most}
        return (seconds + sum(map(self.codes, coded.values()))) / 60


def measure(config: FitConfig, device: str | None) -> Times:
    """Two updates of either kind; the first warms up.

    Raises:
        ValueError, FileNotFoundError: what ``fit`` raises for this configuration.
    """
    place, kind = Team(device).device, intrinsic(config.intrinsic)
    generator = load(config.generator, device=place, readout=config.readout)
    generator.ask(kind.prompt)
    size = sum(weight.numel() for weight in generator.network.parameters())
    config = config.replace(lr=learning_rate(config, size), precision=precision(config, size, place))
    generator = probes.probed(generator, config)
    records = encode(generator, kind, _some(config), mirrored=False)
    adapt(generator, config, records)
    parameters = {name: weight for name, weight in generator.network.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0)
    learner = Learner(config, generator, (Lesson(kind.prompt, records, kind),), parameters, {}, optimizer, {})
    rows = torch.arange(config.batch) % len(records.code)

    def update(share: float) -> None:
        asked = replace(learner, config=config.replace(image_share=share))
        for part in rows.chunk(config.accumulate):
            gradient(asked, part, 0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    side, code = generator.resolution, records.code[rows].to(place)
    image = torch.zeros(len(rows), 3, side, side, device=place)
    with torch.no_grad():
        encoded = _timed(lambda: generator.encode(image)) / len(rows)
        painted = _timed(lambda: generator.forward(code)) / len(rows)
    through = _timed(lambda: update(1.0)) if config.image_share else None
    return Times(_timed(lambda: update(0.0)), through, encoded, painted)


def _timed(run: Callable[[], Any]) -> float:
    """Seconds of the second run."""
    run()
    wait = torch.accelerator.synchronize if torch.accelerator.is_available() else (lambda: None)
    wait()
    began = time.monotonic()
    run()
    wait()
    return time.monotonic() - began


def _some(config: FitConfig) -> Subset:
    """As many labelled examples as a batch holds."""
    source = dataset(config.data, intrinsic=config.intrinsic, split="train", on_problem="skip")
    return select(source, min(len(source), config.batch), seed=config.seed)


def labels(config: FitConfig) -> int:
    """Labelled images of a fit; all that there are where it does not say."""
    if config.labels is not None:
        return config.labels
    return _count(config.data, config.intrinsic, "train")


@lru_cache
def _count(data: str, kind: str, split: str) -> int:
    """Examples of a split; counted once, since some data are unpacked for it."""
    return len(dataset(data, intrinsic=kind, split=split, on_problem="skip"))

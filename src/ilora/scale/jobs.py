"""What is done with the pictures of a shard: the commands' own functions, on files, with what they load held once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ilora import checks
from ilora.data.cache import content_hash
from ilora.data.teachers.base import Teacher
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.intrinsics import NAMES
from ilora.label import Draw, label
from ilora.labelling import LOG as LABELS
from ilora.predict import FORMATS, find, predict
from ilora.predict import LOG as MAPS
from ilora.predictor import Predictor
from ilora.teacher import teacher
from ilora.team import default_device

# Pictures by name (of seeds, their words), folder for the files: why, for each that failed.
Command = Callable[[Mapping[str, Path], Path], dict[str, str]]


@runtime_checkable
class Job(Protocol):
    """A command in a form that travels to workers.

    Attributes:
        verb: for progress bars.
        log: file of JSON lines that the command leaves beside its other files.
        device: where it computes; None: the worker's accelerator, if there is one.
    """

    verb: str
    log: str
    device: str | None

    def open(self) -> Command:
        """Load what the command needs; called once in each worker."""
        ...


@dataclass(frozen=True)
class PredictJob:
    """``ilora.predict.predict``; see there and ``ilora.predictor.Predictor``, its ``sampling`` too."""

    adapters: tuple[str, ...]
    formats: tuple[str, ...] = ("npy", "preview")
    intrinsics: tuple[str, ...] = NAMES
    generator: str | None = None
    batch: int = 8
    mirror: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    verb = "predict"
    log = MAPS

    def identity(self) -> str:
        """Hash of everything but the pictures that the files depend on; the adapters count by their content.

        Raises:
            FileNotFoundError, ValueError: as ``ilora.predictor.find``.
        """
        for word in self.formats:
            checks.choice("format", word, known=list(FORMATS))
        found = {source.intrinsic: _files(source.path) for source in find(self.adapters, intrinsics=self.intrinsics)}
        return content_hash(self.verb, found, self.formats, self.generator, self.mirror, self.sampling)

    def open(self) -> Command:
        """See ``Job``."""
        predictor = Predictor(
            self.adapters, generator=self.generator, intrinsics=self.intrinsics, device=self.device, mirror=self.mirror
        )
        predictor.sampling(**self.sampling)
        return lambda photos, out: predict(photos, predictor, out, formats=self.formats, batch=self.batch).failed


@dataclass(frozen=True)
class LabelJob:
    """``ilora.label.label`` of photos; see there and ``ilora.teacher.teacher``."""

    teachers: tuple[str, ...]
    fov: float | None = None
    side: int = 1024
    batch: int = 8
    device: str | None = None
    verb = "label"
    log = LABELS

    def open(self) -> Command:
        """See ``Job``."""
        teachers = self.load(self.device)
        return lambda photos, out: label(photos, teachers, out, batch=self.batch, side=self.side).failed

    def load(self, device: str | None) -> list[Teacher]:
        """The teachers.

        Raises:
            FileNotFoundError, ValueError, ImportError: as ``ilora.teacher.teacher``.
        """
        return [teacher(name, device=device, fov=self.fov) for name in self.teachers]

    def identity(self, teachers: Sequence[Teacher]) -> str:
        """Hash of everything but the pictures that the files depend on; the teachers count by their fingerprints."""
        return content_hash(self.verb, [each.fingerprint for each in teachers], self.side)


@dataclass(frozen=True)
class DrawJob:
    """``ilora.label.label`` of what a generator paints; shards are seeds.

    Attributes:
        draw: whose generator has a name, so that each worker loads its own.
        by: the teachers and how they are asked.
    """

    draw: Draw
    by: LabelJob
    verb = "label"
    log = LABELS

    @property
    def device(self) -> str | None:
        """See ``Job``; of the generator, too."""
        return self.by.device

    def open(self) -> Command:
        """See ``Job``."""
        teachers, painter = self.by.load(self.device), self.load(self.device)

        def command(seeds: Mapping[str, Path], out: Path) -> dict[str, str]:
            draw = replace(self.draw, generator=painter, count=len(seeds), seed=int(next(iter(seeds))))
            return label(draw, teachers, out, batch=self.by.batch).failed

        return command

    def load(self, device: str | None) -> Generator:
        """The generator.

        Raises:
            ValueError: the job holds one that is loaded.
            FileNotFoundError, ValueError, ImportError: as ``ilora.generators.load``.
        """
        if not isinstance(self.draw.generator, str):
            raise ValueError(f"workers load the generator by name, got {self.draw.generator.name!r} loaded; pass what "
                             "ilora.generators.load takes")  # fmt: skip
        return load(self.draw.generator, device=device or default_device())

    def identity(self, teachers: Sequence[Teacher], painter: Generator) -> str:
        """Hash of everything but the number of pictures that the files depend on."""
        return content_hash(self.by.identity(teachers), painter.fingerprint, self.draw.prompt, self.draw.seed)


def _files(path: Path) -> list[str]:
    """Hash of a file, or of each file of a folder that another tool wrote."""
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    return [content_hash(file) for file in files]

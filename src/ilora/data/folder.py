"""A user's folder: ``images/`` beside ``normals/``, ``depths/``, ``albedos/`` or ``shadings/``, matched by name.

Masks may lie in ``valids/`` (0 is not measured), and ``meta.toml`` says what the numbers mean (``ilora.data.meta``).
Folders may be called by the singular, too.
"""

from collections.abc import Iterable, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import checks, images
from ilora.data import archives, meta
from ilora.data.cache import content_hash
from ilora.data.labels import READERS, Labels
from ilora.data.problems import Problem, Unusable, blaming
from ilora.images.maps import SUFFIXES
from ilora.records import Example


@dataclass(frozen=True)
class Files:
    """The files of one example; None where there is no mask."""

    image: Path
    map: Path
    valid: Path | None


class Folder:
    """The labelled pictures of one intrinsic and split in a folder, read when they are asked for.

    Attributes:
        names: of the examples that have a picture and a map, sorted.
        unmatched: pictures without a map, maps without a picture, masks without both, masks of a format that changes
            numbers, and names that stand for several files.
        notes: what was decided for the user, such as the split.
    """

    def __init__(
        self, path: str | Path, *, intrinsic: str, split: str = "train", without: Iterable[str] = frozenset()
    ) -> None:
        """List the folder, leaving out the examples named in ``without``; no file is opened yet but ``meta.toml``.

        Raises:
            ValueError: no such folder, intrinsic or split, an empty split, or ``meta.toml`` is wrong.
        """
        self.path = checks.folder(path, 'data ("rooms" or a folder)')
        self.intrinsic = checks.choice("intrinsic", intrinsic, known=tuple(READERS))
        self.split = checks.choice("split", split, known=(*meta.SPLITS, meta.ALL))
        self.meta = meta.read(self.path)
        self.reader = READERS[intrinsic]
        files, unmatched = self._match()
        left_out = set(without)
        self.files = {name: files[name] for name in sorted(files) if name not in left_out}
        self.names = list(self.files)
        self.unmatched = [problem for problem in unmatched if problem.name not in left_out]
        if not self.names and not self.unmatched:
            raise ValueError(f"split {split!r} of {self.path} must have examples, got none; see [split] in {meta.FILE}")
        drawn = split != meta.ALL and "split" not in self.meta.declared
        self.notes = [f"{self.path} declares no split: {len(self)} examples of {split!r} were drawn"] if drawn else []
        if self._has("images") and (beside := archives.shards(self.path)):
            self.notes.append(f"{beside[0]} and other tar or Parquet files beside images/ are not read; move them")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the declared meaning of the numbers, the names, and the contents of all files."""
        about = repr((self.meta.tables[self.reader.folder], self.meta.tables["valids"]))
        contents = [[files.image, files.map, files.valid] for files in self.files.values()]
        return content_hash(self.intrinsic, about, self.names, contents)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        """The example at ``index``.

        Raises:
            ValueError: one of its files cannot be read, or their sizes differ; the message begins with the file.
        """
        name = self.names[index]
        image, labels = self._read(self.files[name])
        return Example(name, image, labels.map, labels.valid)

    def problems(self, index: int) -> list[Problem]:
        """Everything that is wrong with the example at ``index``."""
        name = self.names[index]
        file = self.files[name].map
        try:
            _, labels = self._read(self.files[name])
        except Unusable as error:
            return [Problem(name, short(error.file), error.what, error.remedy)]
        found = [Problem(name, short(file), doubt.what, doubt.remedy) for doubt in labels.doubts]
        if not labels.valid.any():
            remedy = f"leave it out, or correct invalid in {meta.FILE}"
            found.append(Problem(name, short(file), "no pixel of it is valid", remedy))
        return found

    def _read(self, files: Files) -> tuple[Float[Tensor, "3 h w"], Labels]:
        """Picture and labels of one size."""
        about = self.meta.tables[self.reader.folder]
        with blaming(files.image):
            image = images.read(files.image)
        with blaming(files.map):
            labels = self.reader.read(images.read_map(files.map, channels=about.channels), about)
            _check_size(labels.valid, image)
        if files.valid is None:
            return image, labels
        with blaming(files.valid):
            stored = images.read_map(files.valid).values
            _check_size(stored, image)
        valid = labels.valid & (stored != self.meta.tables["valids"].invalid).any(0, keepdim=True)
        return image, Labels(torch.where(valid, labels.map, 0), valid, labels.doubts)

    def _match(self) -> tuple[dict[str, Files], list[Problem]]:
        """Files by name, for the names of this split that have a picture and a map, and the others' problems."""
        place = self._place(self.reader.folder)
        every, every_map, lossy = images.find(self._place("images")), images.find_maps(place), _lossy(place)
        pictures, twice = self._by_name(every)
        maps, twice_map = self._by_name(every_map)
        masks, wrong = self._masks({path.stem for path in (*every, *every_map)})
        files = {name: Files(pictures[name], maps[name], masks.get(name)) for name in pictures.keys() & maps.keys()}
        problems = [*twice, *twice_map]
        for name in sorted(pictures.keys() - maps.keys()):
            alone = _alone(pictures[name], self.reader.folder)
            problems.append(_changed(lossy[name]) if name in lossy else alone)
        problems += [_alone(maps[name], "images") for name in sorted(maps.keys() - pictures.keys())]
        return files, problems + wrong

    def _masks(self, known: Set[str]) -> tuple[dict[str, Path], list[Problem]]:
        """Masks by name, and what is wrong with those that would not be applied and nobody would see it.

        Args:
            known: names of all pictures and maps, whatever their split.
        """
        if not self._has("valids"):
            return {}, []
        place, split = self._place("valids"), self.meta.tables["split"]
        every, lossy = images.find_maps(place), _lossy(place)
        masks, problems = self._by_name(every)
        changed, _ = self._by_name(list(lossy.values()))
        problems += [_changed(changed[name]) for name in sorted(changed.keys() - masks.keys())]
        for path in every:  # a name that is nobody's may be in no list of a split
            if path.stem not in known and (path.stem in masks or split.of(path.stem) is None):
                problems.append(Problem(path.stem, short(path), "no picture of that name", "rename it, or remove it"))
        return masks, problems

    def _by_name(self, paths: list[Path]) -> tuple[dict[str, Path], list[Problem]]:
        """Files of this split by name, and the names that stand for several."""
        found: dict[str, Path] = {}
        problems = []
        for path in paths:
            if self.split not in (meta.ALL, self.meta.tables["split"].of(path.stem)):
                continue
            if path.stem in found:
                what = f"the name also stands for {found[path.stem].name}"
                problems.append(Problem(path.stem, short(path), what, "remove or rename one of them"))
            found[path.stem] = path
        return found, problems

    def _has(self, folder: str) -> bool:
        """Whether the folder is there, singular or plural."""
        return (self.path / folder).is_dir() or (self.path / folder.removesuffix("s")).is_dir()

    def _place(self, folder: str) -> Path:
        """The folder, singular or plural.

        Raises:
            ValueError: neither is there.
        """
        if not self._has(folder):
            there = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())
            raise ValueError(f"{self.path} must hold {folder}/, got the folders {there}; add it")
        return next(path for path in (self.path / folder, self.path / folder.removesuffix("s")) if path.is_dir())


def check(dataset: Folder) -> list[Problem]:
    """Everything that is wrong with a folder, file by file; every file is read once."""
    with ThreadPoolExecutor() as pool:  # decoders let other threads run
        each = pool.map(dataset.problems, range(len(dataset)))
        return [*dataset.unmatched, *(problem for problems in each for problem in problems)]


def _check_size(field: Float[Tensor, "c h w"] | Bool[Tensor, "c h w"], image: Float[Tensor, "3 _ _"]) -> None:
    """Refuse a map or a mask that is not of the picture's size."""
    if field.shape[1:] != image.shape[1:]:
        (height, width), (expected_height, expected_width) = field.shape[1:], image.shape[1:]
        turned = (height, width) == (expected_width, expected_height)
        expected = f"expected the picture's {expected_width} x {expected_height}"
        remedy = "the picture is turned by its EXIF orientation, turn the map, too" if turned else "find the right file"
        raise ValueError(f"{width} x {height} px, {expected}; {remedy}")


def _lossy(folder: Path) -> dict[str, Path]:
    """Files of a folder of maps or masks by name that are pictures and no maps."""
    return {path.stem: path for path in images.find(folder) if path.suffix.lower() not in SUFFIXES}


def _changed(file: Path) -> Problem:
    """What is wrong with a map or a mask of such a format."""
    what = f"must be one of {', '.join(SUFFIXES)}, which lose nothing"
    return Problem(file.stem, short(file), what, "convert it from its source")


def _alone(file: Path, folder: str) -> Problem:
    """What is wrong with a file without a partner in the other folder."""
    return Problem(file.stem, short(file), f"no file of that name in {folder}", "add it, or remove this one")


def short(path: Path) -> str:
    """Folder and name."""
    return f"{path.parent.name}/{path.name}"

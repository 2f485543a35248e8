"""Photos to files: maps at each photo's own size, units and axes in the metadata; what cannot be read is reported."""

import glob
import importlib.metadata
import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora import checks, images, run
from ilora.data.cache import content_hash
from ilora.generators.base import LOST
from ilora.ops import color, resample
from ilora.predictor import Estimate, Predictor, find

__all__ = ["FORMATS", "Predictions", "Predictor", "find", "grouped", "predict"]

T = TypeVar("T")

FORMATS = {"npy": ".npy", "npz": ".npz", "png16": ".16bit.png", "exr": ".exr", "preview": ".png"}
LOG = "predictions.jsonl"  # one line a photo, in the output folder
LONGEST = 200  # bytes of an output's name before its endings; file systems take 255 in all
SHEET = 24  # photos on the contact sheet


@dataclass(frozen=True)
class Predictions:
    """What became of the photos.

    Attributes:
        folder: where the maps are.
        files: of each photo that was predicted now.
        skipped: photos whose maps were there already, under ``resume``.
        failed: why, for each word or photo that could not be used.
        sheet: picture of the first photos that were predicted now, with their maps; None without any.
    """

    folder: Path
    files: dict[Path, list[Path]] = field(default_factory=dict)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    sheet: Path | None = None


@dataclass(frozen=True)
class Photo:
    """A photo that has been read.

    Attributes:
        path: of the file.
        name: unique among the photos of a call; outputs are named after it.
        digest: content hash of the file.
        size: height and width [px], upright.
        image: sRGB in [-1, 1] at the generator's working size.
        residual: how far the generator's code is from it, see ``ilora.generators.base.Inverting``; None where codes
            hold the whole picture.
    """

    path: Path
    name: str
    digest: str
    size: tuple[int, int]
    image: Float[Tensor, "3 rows columns"]
    residual: Float[Tensor, "1 rows columns"] | None = None

    def story(self) -> dict[str, float]:
        """Mean of the residual and the share of the pixels that were lost; empty without one."""
        if self.residual is None:
            return {}
        return {"residual": self.residual.mean().item(), "lost": (self.residual >= LOST).float().mean().item()}


def predict(
    photos: str | Path | Sequence[str | Path] | Mapping[str, Path],
    adapters: Predictor | str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    formats: Sequence[str] = ("npy", "preview"),
    batch: int = 8,
    resume: bool = False,
) -> Predictions:
    """Predict the maps of photos and write them to a folder, ``NAME.INTRINSIC.SUFFIX`` each.

    An ensemble (``Predictor.sampling``) also writes ``NAME.INTRINSIC.uncertainty.SUFFIX``.
    Files appear whole or not at all and replace older ones. Two photos of one stem keep their suffixes in the names.
    The folder also gets ``predictions.jsonl``, a line a photo, and ``sheet.png``. With a generator that inverts photos
    (a GAN), each line and each map's metadata say how far the picture that the map belongs to is from the photo.

    Args:
        photos: files, folders (the pictures directly in them) and patterns such as ``photos/**/*.jpg``; or files by
            the names of their outputs.
        adapters: a ``Predictor``, or the paths that make one.
        out: folder to write to.
        formats: of ``FORMATS``: float npy (metadata in a JSON file beside it), npz, exr; 16-bit PNG; colour preview.
        batch: most photos of one working size that are painted together.
        resume: leave out photos whose maps by these adapters are in the folder already.

    Raises:
        ValueError: an unknown format, a folder that cannot be written or holds the photos, or adapters that
            ``Predictor`` refuses.
    """
    formats = [checks.choice("format", word, known=list(FORMATS)) for word in formats]
    batch, failed, rows = checks.positive("batch", batch), dict[str, str](), []
    predictor = adapters if isinstance(adapters, Predictor) else Predictor(adapters)
    names = photos if isinstance(photos, Mapping) else find_photos(photos, failed=failed)
    checks.apart(out, names.values())
    folder = checks.output(out)
    result = Predictions(folder, failed=failed)
    done = _done(folder, predictor, formats) if resume else {}
    if not resume:
        (folder / LOG).unlink(missing_ok=True)
    with run.progress("predict", len(names)) as tell:
        read = _read(names, predictor, result, done)
        for group in grouped(read, key=lambda photo: photo.image.shape, batch=batch):
            painted = predictor.estimate(torch.stack([photo.image for photo in group]))
            for index, photo in enumerate(group):
                found = {name: _row(estimate, index) for name, estimate in painted.items()}
                photo = photo if predictor.residual is None else replace(photo, residual=predictor.residual[index])
                previews = _save(photo, found, predictor=predictor, formats=formats, result=result)
                rows += [(photo, previews)] if previews and len(rows) < SHEET else []
            tell(len(result.files) + len(result.skipped) + len(result.failed), group[-1].name)
    sheet = _sheet(rows, predictor, folder) if rows else None
    return Predictions(folder, result.files, result.skipped, result.failed, sheet)


def find_photos(photos: str | Path | Sequence[str | Path], *, failed: dict[str, str]) -> dict[str, Path]:
    """The files behind one word or several, by the names of their outputs; see ``gather`` and ``named``."""
    return named(gather([photos] if isinstance(photos, (str, Path)) else photos, failed=failed))


def gather(words: Sequence[str | Path], *, failed: dict[str, str]) -> list[Path]:
    """The files behind words, each once, in order; a word without any is said and added to ``failed``."""
    found: dict[Path, None] = {}
    for word in map(str, words):
        path = Path(word).expanduser()
        if path.is_dir():
            inside = images.find(path)
            reason = f"no picture directly in it; {path}/**/* also looks further down"
        elif path.exists():
            inside, reason = [path], ""
        else:
            inside = sorted(map(Path, glob.glob(os.path.expanduser(word), recursive=True)))
            inside = [file for file in inside if file.is_file()]
            reason = "no such file, folder or pattern; check the path"
        if not inside:
            run.fail(failed, word, reason)
        found |= dict.fromkeys(file.absolute() for file in inside)
    return list(found)


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each photo: its stem, with the suffix and if need be a number where stems repeat (case aside).

    Names of more than ``LONGEST`` bytes are cut.
    """
    stems = Counter(path.stem.casefold() for path in paths)
    names: dict[str, Path] = {}
    taken: set[str] = set()
    for path in paths:
        plain = path.stem if stems[path.stem.casefold()] == 1 else path.name.replace(".", "_")
        plain = os.fsencode(plain)[:LONGEST].decode(errors="ignore")
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        names[name] = path
    return names


def grouped(items: Iterable[T], *, key: Callable[[T], Hashable], batch: int) -> Iterator[list[T]]:
    """Items in groups of equal key, at most ``batch`` in each; at most four batches wait at any moment."""
    waiting: dict[Hashable, list[T]] = {}
    for item in items:
        group = waiting.setdefault(key(item), [])
        group.append(item)
        if len(group) == batch or sum(map(len, waiting.values())) == 4 * batch:
            yield waiting.pop(max(waiting, key=lambda which: len(waiting[which])))
    yield from waiting.values()


def _read(
    names: Mapping[str, Path], predictor: Predictor, result: Predictions, done: dict[str, str]
) -> Iterator[Photo]:
    """Photos one after the other; those that are done or cannot be read go to ``result``."""
    for name, path in names.items():
        try:
            digest = content_hash(path)
            if done.get(name) == digest:
                result.skipped.append(path)
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                image = images.read(path)
        except images.UNREADABLE as error:
            run.fail(result.failed, str(path), str(error))
            continue
        for line in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
            run.say(f"{path}: {line.removeprefix(f'{path} ')}")
        yield Photo(path, name, digest, tuple(image.shape[-2:]), predictor.working(image))


def _save(
    photo: Photo,
    estimates: dict[str, Estimate],
    *,
    predictor: Predictor,
    formats: Sequence[str],
    result: Predictions,
) -> list[UInt8[Tensor, "3 rows columns"]]:
    """Write all files of one photo and its line in the log; returns the previews, none where a map is not finite."""
    bad = [name for name, estimate in estimates.items() if not estimate.map.isfinite().all()]
    if bad:
        run.fail(result.failed, str(photo.path), f"its {bad[0]} is not finite; use a wider dtype")
        return []
    files = []
    for name, estimate in estimates.items():
        kind, about = predictor.intrinsic(name), _about(photo, name, predictor)
        stem = result.folder / f"{photo.name}.{name}"
        sized = predictor.sized(name, estimate.map, *photo.size)
        files += _write(stem, sized, kind.show(sized), range=kind.range, about=about, formats=formats)
        if estimate.uncertainty is not None:
            apart = resample.resize(estimate.uncertainty, *photo.size).clamp(min=0)
            about |= {"units": kind.uncertainty, "of": about["units"]}
            files += _write_uncertainty(stem, apart, about=about, formats=formats)
    result.files[photo.path] = files
    run.append(result.folder / LOG, {
        "name": photo.name, "input": photo.path.name, "content": photo.digest, "height": photo.size[0],
        "width": photo.size[1], "adapters": _adapters(predictor), "mirror": predictor.mirror,
        "files": [file.name for file in files],
        **photo.story(),
    })  # fmt: skip
    return [predictor.intrinsic(name).show(estimate.map)[0].cpu() for name, estimate in estimates.items()]


def _row(estimate: Estimate, index: int) -> Estimate:
    """That of one picture."""
    apart = None if estimate.uncertainty is None else estimate.uncertainty[index : index + 1]
    return Estimate(estimate.map[index : index + 1], apart)


def _adapters(predictor: Predictor) -> dict[str, Any]:
    """What the maps depend on besides the photo: each adapter's weights, and how it is read."""
    return {name: [predictor.digest(name), predictor.readout(name).write()] for name in predictor.names}


def _about(photo: Photo, name: str, predictor: Predictor) -> dict[str, str]:
    """What a file of the intrinsic ``name`` says of itself."""
    source = predictor.sources[name]
    return {
        "intrinsic": name,
        "units": predictor.intrinsic(name).units,
        "input": photo.path.name,
        "generator": source.about.generator if source.about else predictor.generator.name,
        "adapter": predictor.digest(name),
        "ilora": importlib.metadata.version("ilora"),
        **{name: f"{number:.3g}" for name, number in photo.story().items()},
    }


def _write(
    stem: Path,
    map: Float[Tensor, "1 c h w"],
    picture: UInt8[Tensor, "1 3 h w"],
    *,
    range: tuple[float, float],
    about: dict[str, str],
    formats: Sequence[str],
) -> list[Path]:
    """One map in every format, ``stem`` and a suffix; the paths, in the order of ``formats``.

    Args:
        picture: of the map, for people.
        range: of the integers in the 16-bit PNG, wider where the map is.
    """
    low, high = min(range[0], map.min().item()), max(range[1], map.max().item())
    about = {**about, "range": f"{map.min().item():.6g} to {map.max().item():.6g}"}
    writers: dict[str, Callable[[Path], Path]] = {
        "npy": lambda path: images.write_npy(path, map[0], about=about),
        "npz": lambda path: images.write_npz(path, map[0], about=about),
        "exr": lambda path: images.write_exr(path, map[0], about=about),
        "png16": lambda path: images.write_png16(path, map[0], low=low, high=high, about=about),
        "preview": lambda path: images.write_preview(path, picture[0], about=about),
    }
    return [writers[word](stem.with_name(stem.name + FORMATS[word])) for word in formats]


def _write_uncertainty(
    stem: Path, apart: Float[Tensor, "1 1 h w"], *, about: dict[str, str], formats: Sequence[str]
) -> list[Path]:
    """An uncertainty beside its map; in the preview 0 is violet and the photo's largest value pale yellow."""
    largest = max(apart.max().item(), torch.finfo(torch.float32).tiny)
    picture = color.to_uint8(color.heat(apart / largest))
    place = stem.with_name(f"{stem.name}.uncertainty")
    return _write(place, apart, picture, range=(0.0, largest), about=about, formats=formats)


def _sheet(rows: Sequence[tuple[Photo, Sequence[UInt8[Tensor, "3 _ _"]]]], predictor: Predictor, folder: Path) -> Path:
    """Photos beside their maps, a row each."""
    cells = [[color.to_uint8((photo.image[None] + 1) / 2)[0].cpu(), *previews] for photo, previews in rows]
    sheet = images.contact_sheet(cells, ["photo", *predictor.names], names=[photo.name for photo, _ in rows])
    return images.write_preview(folder / "sheet.png", sheet, about={"maps": ", ".join(predictor.names)})


def _done(folder: Path, predictor: Predictor, formats: Sequence[str]) -> dict[str, str]:
    """Content hash of each photo whose maps by these adapters are whole in the folder, by name.

    A file holds what the last line that names it says, whatever other calls wrote before or beside it.
    """
    adapters, rows = _adapters(predictor), run.rows(folder / LOG)
    kinds = {f".{name}": name for name in adapters}
    kinds |= {f".{name}.uncertainty": name for name in adapters if predictor.samples(name) > 1}
    last = {file: row for row in rows for file in row.get("files", ()) if (folder / file).is_file()}

    def holds(file: str, kind: str, content: str) -> bool:
        row = last.get(file, {})
        made = (row.get("content"), row.get("mirror"), row.get("adapters", {}).get(kind))
        return made == (content, predictor.mirror, adapters[kind])

    return {
        row["name"]: row["content"]
        for row in rows
        if all(
            holds(f"{row['name']}{part}{FORMATS[word]}", kind, row["content"])
            for part, kind in kinds.items()
            for word in formats
        )
    }

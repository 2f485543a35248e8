"""Labelled pictures: the shipped benchmark, published data sets and users' folders; caches and transforms of them."""

import warnings
from typing import TYPE_CHECKING

from ilora import checks

if TYPE_CHECKING:
    from ilora.data.base import Dataset

ON_PROBLEM = ("refuse", "skip")


def dataset(name_or_path: str, *, intrinsic: str, split: str = "train", on_problem: str = "refuse") -> "Dataset":
    """The data set "rooms" (shipped with the package), a published one, or a folder of the user's after a check.

    Args:
        name_or_path: "rooms"; "NAME:PATH" for a published data set (see ``ilora.data.benchmarks``), whose files are
            looked for and not opened; or the path of a folder (write ``./rooms`` for one of that name), of which all
            files are read once; or of webdataset tars and Parquet files (see ``ilora.data.packed``), which are, too.
        intrinsic: normal, depth, albedo or shading.
        split: train, validation or test; "all" for every example of a folder or a published data set.
        on_problem: "refuse" to raise where files are missing or wrong, "skip" to warn and leave those examples out.

    Raises:
        ValueError: an unknown word, an empty or missing folder, or problems, listed file by file.
    """
    from ilora.data import benchmarks, folder, generated, packed, problems, rooms_benchmark

    checks.choice("on_problem", on_problem, known=ON_PROBLEM)
    if str(name_or_path) == rooms_benchmark.NAME:
        return rooms_benchmark.Rooms(intrinsic=intrinsic, split=split)
    published = benchmarks.named(str(name_or_path))
    if published is not None:
        name, path = published
        return benchmarks.opened(name, path, intrinsic=intrinsic, split=split, on_problem=on_problem)
    kind = generated.Generated if generated.has_codes(name_or_path) else folder.Folder
    kind = packed.Packed if packed.holds(name_or_path) else kind
    examples = kind(name_or_path, intrinsic=intrinsic, split=split)
    for note in examples.notes:
        warnings.warn(note, stacklevel=2)
    found = folder.check(examples)
    if not found:
        return examples
    names = {problem.name for problem in found}
    summary = f"{len(names)} of the examples in {examples.path} have problems"
    if on_problem == "refuse":
        remedy = 'correct them, or leave them out with on_problem="skip"'
        raise ValueError(f"{summary}; {remedy}:\n{problems.listing(found)}")
    warnings.warn(f"{summary} and are left out:\n{problems.listing(found)}", stacklevel=2)
    return kind(name_or_path, intrinsic=intrinsic, split=split, without=names)

"""Intrinsic Images in the Wild: photographs with people's judgements of which of two points has the darker surface."""

import json
from pathlib import Path

import torch

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files
from ilora.records import Judged, Judgements

DARKER = {"E": 0, "1": 1, "2": 2}  # neither, the first, the second
EVERY = 5  # of the photographs by number, the first is for testing: Narihira et al. 2015, *Learning lightness*


class IIW(Benchmark):
    """Photographs whose examples are ``Judged``: no pixel of the map is valid, and the judgements are beside it."""

    card = Card(
        title="Intrinsic Images in the Wild",
        intrinsics=("albedo",),
        splits=("train", "test"),
        units="judgements: darker of two points, by confidence",
        axes="points as shares of width and height, from the upper left",
        invalid="points that are not opaque, judgements without an answer or confidence",
        licence="Creative Commons, each photograph its own; see the data set's page",
        home="opensurfaces.cs.cornell.edu/publications/intrinsic",
        layout="[iiw-dataset/][data/]NUMBER.png with NUMBER.json beside it; all of them, since the split counts them",
    )

    judged = True
    note = "its examples hold judgements and no maps, so nothing can be fitted to them; they are for WHDR"

    def find(self) -> dict[str, Files]:
        """Every fifth photograph, or the others."""
        root = contents.first([self.path / place for place in ("iiw-dataset/data", "data", "")])
        files = [path for path in root.iterdir() if path.suffix in (".png", ".json") and path.stem.isdigit()]
        numbers = sorted({path.stem for path in files}, key=int)
        test = set(numbers[::EVERY])
        chosen = {"train": set(numbers) - test, "test": test}.get(self.split, numbers)
        return {number: {"picture": root / f"{number}.png", "judgements": root / f"{number}.json"} for number in chosen}

    def __getitem__(self, index: int) -> Judged:
        """The photograph at ``index`` with its judgements.

        Raises:
            ValueError: one of its files cannot be read.
        """
        name = self.names[index]
        image = images.read(self.files[name]["picture"])
        nowhere = torch.zeros_like(image[:1], dtype=torch.bool)
        answers = judgements(self.files[name]["judgements"])
        return Judged(name, image, torch.zeros_like(image), nowhere, judgements=answers)


def judgements(path: Path) -> Judgements:
    """The judgements that count, as WHDR has it (Bell et al. 2014, section 3.5).

    Both points must be opaque, the answer 1, 2 or E, and its confidence above 0.

    Raises:
        ValueError: no JSON, or without the fields.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        points = {point["id"]: point for point in stored["intrinsic_points"]}
        counted = [
            (points[each["point1"]], points[each["point2"]], DARKER[each["darker"]], float(each["darker_score"]))
            for each in stored["intrinsic_comparisons"]
            if each["darker"] in DARKER and (each["darker_score"] or 0) > 0
        ]
        rows = [row for row in counted if row[0]["opaque"] and row[1]["opaque"]]
        places = [[[point["x"], point["y"]] for point in row[:2]] for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must hold judgements of IIW, got {error!r}; download it again") from error
    return Judgements(
        points=torch.tensor(places, dtype=torch.float32).reshape(-1, 2, 2),
        darker=torch.tensor([row[2] for row in rows], dtype=torch.long),
        weight=torch.tensor([row[3] for row in rows], dtype=torch.float32),
    )

"""What every data set offers, and how a few of its examples are chosen."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch

from ilora import checks
from ilora.data.cache import content_hash
from ilora.records import Example


@runtime_checkable
class Dataset(Protocol):
    """Labelled pictures of one intrinsic, read when they are asked for.

    Attributes:
        names: of the examples, in order, unique.
        fingerprint: content hash of everything that the examples are made from.
    """

    names: list[str]
    fingerprint: str

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> Example:
        """The example at ``index``, 0 to len - 1; IndexError beyond, so that a data set can be iterated over."""
        ...


class Subset:
    """Some examples of a data set, in the given order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = list(indices)
        self.names = [dataset.names[index] for index in self.indices]

    @property
    def fingerprint(self) -> str:
        """Hash of the whole set's fingerprint and the names that were chosen."""
        return content_hash(self.dataset.fingerprint, self.names)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """The example at ``index`` of the subset."""
        return self.dataset[self.indices[index]]


def select(dataset: Dataset, count: int, *, seed: int) -> Subset:
    """``count`` examples drawn without replacement.

    They are the first of one permutation a seed, so under the same seed a smaller choice is contained in a larger one.

    Raises:
        ValueError: the data set has fewer examples.
    """
    checks.positive("count", count)
    if count > len(dataset):
        raise ValueError(f"count must be at most {len(dataset)}, the examples there are, got {count}; ask for fewer")
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(checks.seed(seed)))
    return Subset(dataset, order[:count].tolist())

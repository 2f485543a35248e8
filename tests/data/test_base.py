"""A choice of examples is nested, reproducible and without repetition."""

import pytest
import torch

from ilora.data.base import Dataset, Subset, select
from ilora.records import Example


class Numbers:
    """Examples that hold their own index."""

    def __init__(self, count: int) -> None:
        self.names = [f"{index:03d}" for index in range(count)]
        self.fingerprint = f"numbers {count}"

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        value = torch.full((3, 2, 2), float(index))
        return Example(self.names[index], value / 1000, value[:1], torch.ones(1, 2, 2, dtype=torch.bool))


def test_a_smaller_choice_is_the_start_of_a_larger_one() -> None:
    large = select(Numbers(300), 250, seed=3)
    small = select(Numbers(300), 25, seed=3)
    assert large.names[:25] == small.names and len(set(large.names)) == 250
    assert small.names != select(Numbers(300), 25, seed=4).names


def test_a_subset_hands_out_the_examples_it_names() -> None:
    subset = select(Numbers(9), 4, seed=0)
    assert isinstance(subset, Dataset)
    assert [example.name for example in subset] == subset.names
    assert [int(example.map[0, 0, 0]) for example in subset] == [int(name) for name in subset.names]


def test_the_fingerprint_follows_the_choice() -> None:
    data = Numbers(9)
    prints = {Subset(data, chosen).fingerprint for chosen in ([0, 1], [1, 0], [0], [])}
    assert len(prints) == 4 and Subset(data, [2, 3]).fingerprint == Subset(Numbers(9), [2, 3]).fingerprint
    other = Numbers(9)
    other.fingerprint = "changed"
    assert Subset(other, [0]).fingerprint not in prints


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 9.*got 10"):
        select(Numbers(9), 10, seed=0)
    assert sorted(select(Numbers(9), 9, seed=0).names) == Numbers(9).names

"""``meta.toml``: what it may say, and what its mistakes are called."""

from collections import Counter
from pathlib import Path

import pytest

from ilora.data import meta


def parse(text: str, folder: Path) -> meta.Meta:
    """The meaning of a file's text."""
    (folder / meta.FILE).write_text(text)
    return meta.read(folder)


def test_nothing_declared_means_the_defaults(tmp_path: Path) -> None:
    about = meta.read(tmp_path)
    assert about.tables["normals"].axes == "RUB" and about.tables["depths"].unit is None and not about.declared


def test_singular_and_plural_tables_and_remarks(tmp_path: Path) -> None:
    about = parse('renderer = "x"\nsize = 128\n[depth]\nunit = "mm"\n[normals]\naxes = "RDF"\n', tmp_path)
    assert about.tables["depths"].unit == "mm" and about.tables["normals"].axes == "RDF"
    assert about.declared == {"depths", "normals"}


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/your-own-data.md").read_text()
    about = parse(page.partition("```toml\n")[2].partition("```")[0], tmp_path)
    assert about.declared == {"normals", "depths", "albedos", "split"}
    assert about.tables["split"].of("room-31") == "test" and about.tables["depths"].largest == 80


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[depths]\nunits = 'm'", "did you mean 'unit'"),
        ("[dephts]\nunit = 'm'", "did you mean 'depths'"),
        ("[depths", "must be TOML"),
        ("[depths]\nkind = 'planer'", "did you mean 'planar'"),
        ("[depths]\nkind = 'euclidean'", "needs camera"),
        ("[albedos]\nspace = 'sgrb'", "did you mean 'srgb'"),
        ("[images]\nspace = 'linear'", "space of images"),
        ("[split]\nfractions = [0.5, 0.5, 0.5]", "sum to 1"),
        ("[split]\nfractions = [1.0]", "three shares"),
        ("[split]\nfractions = [0.8, 0.1, 0.1]\ntrain = ['a']", "keep one"),
    ],
)
def test_mistakes_are_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse(text, tmp_path)
    assert str(tmp_path / meta.FILE) in str(caught.value)


@pytest.mark.parametrize(
    ("invalid", "channels", "pixels"),
    [
        ([], 1, []),
        (0, 1, [[0]]),
        (0, 3, [[0, 0, 0]]),
        ([0, 65535], 1, [[0], [65535]]),
        ([-1, -1, -1], 3, [[-1, -1, -1]]),
        ([0, 1], 3, [[0, 0, 0], [1, 1, 1]]),
        ([[0, 0, 0], [1, 2, 3]], 3, [[0, 0, 0], [1, 2, 3]]),
    ],
)
def test_pixels_that_are_not_measured(invalid: object, channels: int, pixels: list) -> None:
    assert meta.Stored(invalid=invalid).not_measured(channels) == pixels


@pytest.mark.parametrize("invalid", ["black", [[0, 0]], [["a", "b", "c"]]])
def test_pixels_of_another_kind_are_refused(invalid: object) -> None:
    with pytest.raises(ValueError, match="pixels of 3 numbers"):
        meta.Stored(invalid=invalid).not_measured(3)


def test_a_drawn_split_depends_on_nothing_but_name_and_seed() -> None:
    names = [f"photo-{index}" for index in range(1000)]
    drawn = [meta.Split().of(name) for name in names]
    assert drawn == [meta.Split().of(name) for name in names]
    shares = {split: count / 1000 for split, count in Counter(drawn).items()}
    for split, share in zip(meta.SPLITS, meta.FRACTIONS, strict=True):
        assert abs(shares[split] - share) < 0.03
    other = [meta.Split(seed=1).of(name) for name in names]
    assert 0.25 < sum(a != b for a, b in zip(drawn, other, strict=True)) / 1000 < 0.45  # 1 - .64 - .01 - .01 = .34


def test_fractions_may_leave_a_split_empty() -> None:
    assert {meta.Split(fractions=[0.0, 0.0, 1.0]).of(str(index)) for index in range(99)} == {"test"}
    assert {meta.Split(fractions=[1.0, 0.0, 0.0]).of(str(index)) for index in range(99)} == {"train"}


def test_lists_take_names_and_patterns() -> None:
    split = meta.Split(train=["room-1*"], test=["room-2", "hall"])
    assert [split.of(name) for name in ("room-1", "room-17", "room-2", "hall", "room-3")] == [
        "train",
        "train",
        "test",
        "test",
        None,
    ]
    with pytest.raises(ValueError, match="'a' in"):
        meta.Split(train=["a"], test=["*"]).of("a")

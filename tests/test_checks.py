"""The boundary lets good values through unchanged and names bad ones."""

from pathlib import Path

import pytest
import torch

from ilora import checks


def test_a_good_image_passes_as_it_is() -> None:
    image = torch.tensor([-1.0, 0.25, 1.0])[:, None, None].expand(3, 2, 4)
    assert checks.image(image) is image


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(1, 4, 4), r"\(1, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4), r"\(1, 3, 4, 4\)"),
        (torch.zeros(3, 0, 4), r"\(3, 0, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((3, 4, 4), 255.0), r"\[255, 255\]"),
        (torch.full((3, 4, 4), -1.01), r"\[-1.01, -1.01\]"),
        (torch.full((3, 4, 4), torch.nan), "nan"),
        (torch.full((3, 4, 4), torch.inf), "inf"),
    ],
)
def test_a_bad_image_is_named(image: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checks.image(image)


def test_labels_must_fit_the_picture_and_hold_something_finite() -> None:
    image, map, valid = torch.zeros(3, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 2, 3, dtype=torch.bool)
    assert checks.labels(map, valid, like=image) == (map, valid)
    with pytest.raises(ValueError, match=r"\(2, 3\).*got \(3, 2\)"):
        checks.labels(map.mT, valid, like=image)
    with pytest.raises(ValueError, match="got 0"):
        checks.labels(map, ~valid, like=image)
    broken = torch.where(torch.tensor([[[1, 0, 0], [0, 1, 0]]]).bool(), torch.nan, map)
    with pytest.raises(ValueError, match="got 2 that are not"):
        checks.labels(broken, valid, like=image)
    assert checks.labels(broken, broken.isfinite(), like=image)[1].sum() == 4  # NaN under the mask is fine


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, "7", None])
def test_a_bad_seed_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="seed must be"):
        checks.seed(value)


def test_good_seeds_feed_a_torch_generator() -> None:
    for value in (0, 1234, 2**63 - 1):
        assert torch.Generator().manual_seed(checks.seed(value)).initial_seed() == value


def test_numbers_and_words() -> None:
    assert checks.positive("rank", 8) == 8
    assert checks.between("lr", 1, low=0, high=1) == 1.0
    assert checks.choice("split", "test", known=("train", "test")) == "test"
    with pytest.raises(ValueError, match=r"rank must be .* got 0"):
        checks.positive("rank", 0)
    for bad in (1.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"lr must be .* got {bad}"):
            checks.between("lr", bad, low=0, high=1)
    with pytest.raises(ValueError, match="got 'tset'; did you mean 'test'"):
        checks.choice("split", "tset", known=("train", "test"))


def test_paths_name_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    (tmp_path / "empty.png").touch()
    assert checks.file(tmp_path / "photo.png") == tmp_path / "photo.png"
    assert checks.folder(str(tmp_path)) == tmp_path
    for path, words in (
        ("phot.png", "did you mean 'photo.png'"),
        ("empty.png", "0 bytes"),
        (".", "got the folder"),
        ("nowhere/photo.png", "its folder .* does not exist"),
    ):
        with pytest.raises(ValueError, match=words):
            checks.file(tmp_path / path, "picture")
    with pytest.raises(ValueError, match="got the file"):
        checks.folder(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="data must exist, got"):
        checks.folder(tmp_path / "nothing at all", "data")


def test_an_output_folder_is_made_where_it_can_be(tmp_path: Path) -> None:
    assert checks.output(tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(ValueError, match="must be a folder"):
            checks.output(tmp_path / path)

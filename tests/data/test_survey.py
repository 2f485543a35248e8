"""What ``ilora data stats`` tells of data, worked out by hand, and the sheet that shows it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilora.data.survey import offered, survey
from tests import world
from tests.data.benchmarks import scene, test_iiw


def lines(words: str, **options: object) -> str:
    """All lines."""
    return "\n".join(line for one in survey(words, **options) for line in one.lines)


def test_ranges_shares_and_sizes_by_hand(tmp_path: Path) -> None:
    for number, depth in enumerate((np.full((4, 6), 2.0), np.full((8, 6), 4.0))):
        depth[0] = 0
        millimetres = (1000 * depth).astype(np.uint16)
        scene.save(tmp_path / f"scans/scene0000_00/depth/{number}.png", millimetres)
        scene.save(tmp_path / f"scans/scene0000_00/color/{number}.png", scene.noise(0, *depth.shape))
    told = lines(f"scannet:{tmp_path}")
    assert "depth: all 2 examples, 6 x 4 to 6 x 8 px, 81.2% of the pixels valid (75.0% at least)" in told
    assert "least 2, 1 % 2, median 4, 99 % 4, greatest 4" in told and "metres" in told
    assert "depth: 1 of 2, evenly spread examples, 6 x 4 px" in lines(f"scannet:{tmp_path}", count=1)


@pytest.mark.parametrize(("up", "told"), [(1, "in 1 of 1 maps"), (-1, "in 0 of 1 maps")])
def test_a_floor_that_points_down_is_told(up: int, told: str, tmp_path: Path) -> None:
    scene.save(tmp_path / "test/0_img.png", np.full_like(scene.noise(), 128))
    normal = scene.normals() * (-1, up, 1)
    scene.save(tmp_path / "test/0_normal.png", ((normal + 1) / 2 * 65535).astype(np.uint16))
    sheet = tmp_path / "sheet.png"
    assert f"floors point up {told}" in lines(f"dsine:{tmp_path}", out=sheet)
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture).astype(int)
    shown = {sign: np.abs(pixels - (scene.NORMAL * (1, sign, 1) + 1) * 127.5).max(-1) < 4 for sign in (1, -1)}
    assert shown[up].sum() > 1000 and shown[-up].sum() == 0  # the colour of such a floor, and none of the other's


def test_a_folder_of_the_users_own_shows_all_its_maps(tmp_path: Path) -> None:
    world.write(tmp_path / "mine", train=3, test=0)
    assert offered(str(tmp_path / "mine")) == ["normal", "depth", "albedo", "shading"]
    found = survey(str(tmp_path / "mine"), count=2, out=tmp_path / "sheet.png")
    assert [one.kind.name for one in found] == ["normal", "depth", "albedo", "shading"]
    assert [len(one.sizes) for one in found] == [2, 2, 2, 2]
    albedo = found[2]
    assert albedo.least == pytest.approx(0.8) == albedo.greatest and albedo.shares == [1.0, 1.0]
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 5 * 100 and picture.height > 2 * 100


def test_judgements_have_no_valid_pixel(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="judgements and no maps"):
        told = lines(f"iiw:{test_iiw.write(tmp_path, 1)}", out=tmp_path / "sheet.png")
    assert "0.0% of the pixels valid" in told and "no pixel is valid" in told and (tmp_path / "sheet.png").is_file()


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="must hold one of normals/, depths/, albedos/, shadings/, got"):
        survey(str(tmp_path))
    with pytest.raises(ValueError, match="images must be a whole number of at least 1"):
        survey(str(tmp_path), count=0)

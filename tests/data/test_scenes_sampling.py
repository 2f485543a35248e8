"""Scenes from seeds: splits that never meet, furniture inside its room, and meshes of the right volume."""

import re
from itertools import pairwise

import numpy as np
import pytest

from ilora.data.scenes import (
    LABELLED,
    PICTURES,
    SPLITS,
    TEST,
    VALIDATION,
    captions,
    geometry,
    sample_scene,
    split_seeds,
    textures,
)
from ilora.data.scenes.scene import Material

SCENES = [sample_scene(LABELLED.start + i) for i in range(60)]


def test_splits_are_disjoint():
    ranges = sorted(SPLITS.values(), key=lambda r: r.start)
    assert {PICTURES, LABELLED, VALIDATION, TEST} == set(ranges)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))


def test_a_request_inside_its_split_gives_absolute_seeds():
    assert list(split_seeds("test", 3, 2)) == [TEST.start + 3, TEST.start + 4]
    assert split_seeds("pictures", len(PICTURES) - 1, 1)[-1] == PICTURES[-1]


@pytest.mark.parametrize(("first", "count"), [(len(PICTURES) - 1, 2), (-1, 2), (0, 0), (0, len(PICTURES) + 1)])
def test_a_request_that_leaves_its_split_is_refused(first, count):
    with pytest.raises(ValueError, match="inside the split"):
        split_seeds("pictures", first, count)


def test_unknown_split_and_seed_are_refused():
    with pytest.raises(ValueError, match="split must be one of"):
        split_seeds("train", 0, 1)
    with pytest.raises(ValueError, match="seed must lie"):
        sample_scene(-1)


def test_same_seed_same_scene_and_other_seed_other_scene():
    assert sample_scene(77) == sample_scene(77)
    assert sample_scene(77).parts != sample_scene(78).parts


def test_variety():
    factors = [dict(scene.factors) for scene in SCENES]
    kinds = {piece.kind for scene in SCENES for piece in scene.pieces}
    assert len(kinds & set(captions.FURNITURE)) >= 12 and len(kinds & set(captions.OBJECTS)) >= 4
    for name in ("light_area", "light_lamp", "light_window", "light_sun"):
        assert 0 < sum(f[name] > 0 for f in factors) < len(factors)
    assert all(f["light_area"] + f["light_lamp"] + f["light_window"] >= 1 for f in factors)
    assert max(f["room_width"] for f in factors) > 6 and min(f["room_width"] for f in factors) < 3.2
    assert all(45 <= f["camera_fov"] <= 85 for f in factors)
    glossy = [m.specular > 0 for scene in SCENES for m in scene.materials]
    assert 0.1 < np.mean(glossy) < 0.3


def test_camera_and_furniture_stay_in_the_room():
    for scene in SCENES:
        size = np.array([dict(scene.factors)[f"room_{axis}"] for axis in ("width", "length", "height")])
        assert (np.array(scene.camera.position) > 0).all() and (np.array(scene.camera.position) < size).all()
        mesh = geometry.tessellate(scene)
        inside = mesh.position[mesh.piece >= 0]
        assert (inside > -0.35).all() and (inside < size + 0.35).all()  # leaves and cushions may press on a wall
        rotation = np.array(scene.camera.rotation)
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1) and abs(rotation[2, 0]) < 1e-9  # no roll


def volume(form: geometry.Shape) -> float:
    """By the divergence theorem: positive where all corners run counter-clockwise seen from outside."""
    a, b, c = np.moveaxis(form.position, 1, 0)
    return (a * np.cross(b, c)).sum() / 6


@pytest.mark.parametrize(
    ("name", "taper", "expected", "within"),
    [
        ("box", 1.0, 1.0, 1e-9),
        ("sphere", 1.0, np.pi / 6, 0.03),
        ("cylinder", 1.0, np.pi / 4, 0.015),
        ("cylinder", 0.0, np.pi / 12, 0.015),
        ("torus", 1.0, 2 * np.pi**2 * 0.4 * 0.1**2 * 5, 0.06),  # five times as high as a round tube
    ],
)
def test_primitives_have_the_volume_of_their_name(name, taper, expected, within):
    assert volume(geometry.shape(name, taper)) == pytest.approx(expected, rel=within)


@pytest.mark.parametrize("name", sorted(geometry.SHAPES))
def test_corner_normals_agree_with_the_faces(name):
    form = geometry.shape(name)
    face = np.cross(form.position[:, 1] - form.position[:, 0], form.position[:, 2] - form.position[:, 0])
    face /= np.linalg.norm(face, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(form.normal, axis=2), 1, atol=1e-9)
    assert ((form.normal * face[:, None]).sum(2) > 0.4).all()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="shape must be one of"):
        geometry.shape("teapot")
    with pytest.raises(ValueError, match="pattern must be"):
        textures.bake(Material((0.5, 0.5, 0.5), pattern="tartan"))


def test_tiles_are_reflectances_and_the_atlas_holds_them_in_order():
    materials = tuple(Material((0.8, 0.3, 0.1), (0.1, 0.2, 0.9), p, seed=4) for p in ("plain", *textures.PATTERNS))
    texels, starts, sides = textures.atlas(materials)
    assert texels.min() >= 0 and texels.max() <= 0.9
    for material, start, side in zip(materials, starts, sides, strict=True):
        np.testing.assert_array_equal(texels[start : start + side**2], textures.bake(material).reshape(-1, 3))
    np.testing.assert_allclose(textures.bake(materials[0])[0, 0], [0.8, 0.3, 0.1], rtol=1e-6)


def test_captions_name_what_is_seen_in_few_words():
    words = set()
    for scene in SCENES:
        piece = np.full((40, 40), -1)
        for i in range(len(scene.pieces)):
            piece[i % 40] = i
        caption, factors = captions.describe(scene, piece)
        words |= set(re.findall(r"[a-z]+", caption))
        assert " room" in caption
        assert sum(factors[f"count_{kind}"] for kind in captions.KINDS) == min(len(scene.pieces), 40)
    assert len(words) < 200
    caption, factors = captions.describe(SCENES[0], np.full((8, 8), -1))
    assert not any(kind in caption for kind in captions.KINDS) and factors["count_sofa"] == 0

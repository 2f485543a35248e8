"""The renderer against closed forms, against Mitsuba's own integrator, and against itself in a mirror."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mitsuba", reason="rendering needs mitsuba: pip install 'ilora[scenes]'")
pytest.importorskip("pyoidn", reason="denoising needs pyoidn: pip install 'ilora[scenes]'")

import mitsuba as mi

from ilora.data.scenes import render, sample_scene
from ilora.data.scenes.geometry import Mesh, tessellate
from ilora.data.scenes.rendering import to_srgb
from ilora.data.scenes.sampling import look_at
from ilora.data.scenes.scene import Camera, Material, Part, Scene, Sun, Window

SIZE = 32
LAMP = Material((0.0, 0.0, 0.0), emission=(9.0, 8.0, 6.0))
GREY = Material((0.5, 0.4, 0.3))


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between unit vectors [deg]."""
    a, b = a.astype(float), b.astype(float)
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def view_rays(camera: Camera, size: int) -> np.ndarray:
    """Through pixel centres, camera axes (x right, y up, z backward), z = -1: [h, w, 3]."""
    matrix = camera.matrix(size)
    row, column = np.mgrid[:size, :size] + 0.5
    x, y = (column - matrix[0, 2]) / matrix[0, 0], -(row - matrix[1, 2]) / matrix[1, 1]
    return np.stack([x, y, -np.ones_like(x)], -1)


def lit(part: Part, camera: Camera) -> Scene:
    """One grey part under one small lamp above the camera."""
    up = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    lamp = Part("quad", (0.0, -1.0, 4.0), (0.5, 0.5, 1.0), 1, up)
    return Scene(0, camera, (GREY, LAMP), (part, lamp))


def test_floor_plane_has_the_closed_form_normal_and_depth():
    camera = look_at((0.3, -2.0, 1.7), (0.0, 0.2, 0.0), 50)
    floor = Part("quad", (0.0, 0.0, 0.0), (60.0, 60.0, 1.0), 0)
    maps = render(lit(floor, camera), SIZE, 1, denoise=False)
    rotation = np.array(camera.rotation)
    slope = view_rays(camera, SIZE) @ rotation.T @ [0, 0, 1]  # height lost a metre of planar depth
    assert (slope < 0).all()
    assert angle(maps["normal"], rotation.T @ [0, 0, 1]).max() <= 0.1
    np.testing.assert_allclose(maps["depth"], -1.7 / slope, rtol=1e-3)


def fine_sphere(mesh: Mesh, centre: np.ndarray, radius: float) -> Mesh:
    """The mesh with its sphere (material 0) in triangles of 1.4 degrees."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 129), np.linspace(0, 2 * np.pi, 257), indexing="ij")
    normal = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).astype(np.float32)
    a, b, c, d = normal[:-1, :-1], normal[1:, :-1], normal[1:, 1:], normal[:-1, 1:]
    faces = np.concatenate([np.stack(t, 2).reshape(-1, 3, 3) for t in ((a, b, c), (a, c, d))])
    rest = mesh.material != 0
    count = len(faces)
    return Mesh(
        np.concatenate([faces * np.float32(radius) + centre.astype(np.float32), mesh.position[rest]]),
        np.concatenate([faces, mesh.normal[rest]]),
        np.concatenate([np.zeros((count, 3, 2), np.float32), mesh.uv[rest]]),
        np.concatenate([np.zeros(count, np.uint32), mesh.material[rest]]),
        np.full(count + rest.sum(), -1, np.int32),
    )


def test_sphere_has_the_closed_form_normal_and_depth():
    camera, centre, radius = look_at((0.0, -3.0, 1.0), (0.0, 0.0, 1.0), 40), np.array([0.0, 0.0, 1.0]), 0.8
    scene = lit(Part("sphere", tuple(centre), (2 * radius,) * 3, 0), camera)
    maps = render(scene, 2 * SIZE, 1, denoise=False, mesh=fine_sphere(tessellate(scene), centre, radius))
    rays = view_rays(camera, 2 * SIZE)
    middle = np.array(camera.rotation).T @ (centre - camera.position)
    a, b, c = (rays**2).sum(-1), rays @ middle, middle @ middle - radius**2
    inner = b**2 - a * c > 0.3 * (b**2 - a * c).max()  # away from the rim, where a polyhedron's outline differs
    depth = (b - np.sqrt(np.maximum(b**2 - a * c, 0))) / a
    normal = (depth[..., None] * rays - middle) / radius
    assert inner.sum() > 300
    assert angle(maps["normal"], normal)[inner].mean() <= 0.1
    np.testing.assert_allclose(maps["depth"][inner], depth[inner], rtol=1e-3)


def diffuse_room() -> Scene:
    """A closed box with a cube and a ceiling lamp, all diffuse."""
    paint = (Material((0.7, 0.3, 0.2)), Material((0.3, 0.6, 0.7)), Material((0.6, 0.6, 0.3)), LAMP)
    down = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    right = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    left = ((0.0, 0.0, -1.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    back = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
    front = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
    parts = (
        Part("quad", (0, 0, 0), (3, 3, 1), 2),
        Part("quad", (0, 0, 2.5), (3, 3, 1), 2, down),
        Part("quad", (-1.5, 0, 1.25), (3, 2.5, 1), 0, right),
        Part("quad", (1.5, 0, 1.25), (3, 2.5, 1), 1, left),
        Part("quad", (0, 1.5, 1.25), (3, 2.5, 1), 2, back),
        Part("quad", (0, -1.5, 1.25), (3, 2.5, 1), 2, front),
        Part("box", (0.3, 0.4, 0.4), (0.7, 0.6, 0.8), 1),
        Part("quad", (-0.2, 0.1, 2.45), (0.8, 0.8, 1), 3, down),
    )
    return Scene(3, look_at((0.2, -1.3, 1.3), (0.0, 1.0, 0.9), 70), paint, parts)


def mitsuba_path(scene: Scene, size: int, samples: int, depth: int) -> np.ndarray:
    """The same triangles in Mitsuba's own scene, materials, emitters and `path` integrator: linear [h, w, 3]."""
    mesh, camera = tessellate(scene), scene.camera
    to_world = np.eye(4)
    rotation = np.array(camera.rotation)
    to_world[:3, :3] = np.stack([-rotation[:, 0], rotation[:, 1], -rotation[:, 2]], 1)  # Mitsuba looks along +z
    to_world[:3, 3] = camera.position
    film = {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}}
    sensor = {"type": "perspective", "fov": camera.fov, "to_world": mi.ScalarTransform4f(to_world), "film": film}
    world = {"type": "scene", "integrator": {"type": "path", "max_depth": depth + 1, "rr_depth": 99}, "sensor": sensor}
    for i, material in enumerate(scene.materials):
        properties = mi.Properties()
        bsdf = {"type": "diffuse", "reflectance": {"type": "rgb", "value": list(material.colour)}}
        properties["bsdf"] = mi.load_dict(bsdf)
        if sum(material.emission):
            glow = {"type": "area", "radiance": {"type": "rgb", "value": list(material.emission)}}
            properties["emitter"] = mi.load_dict(glow)
        corners = mesh.position[mesh.material == i]
        shape = mi.Mesh(f"m{i}", 3 * len(corners), len(corners), props=properties)
        values = mi.traverse(shape)
        values["vertex_positions"] = corners.ravel()
        values["faces"] = np.arange(3 * len(corners), dtype=np.uint32)
        values.update()
        world[f"mesh{i}"] = shape
    return np.array(mi.render(mi.load_dict(world), spp=samples))


def test_picture_is_albedo_times_shading_plus_residual_and_equals_mitsubas_own():
    scene = diffuse_room()
    ours = render(scene, SIZE, 400, depth=3, denoise=False)
    picture = ours["albedo"] * ours["shading"] + ours["residual"]
    np.testing.assert_array_equal(ours["image"], np.round(to_srgb(picture) * 255))
    theirs = ours["exposure"] * mitsuba_path(scene, SIZE, 400, 3)
    inner = ours["valid"]
    ratio = picture[inner].mean(0) / theirs[inner].mean(0)
    np.testing.assert_allclose(ratio, 1, atol=0.01)
    blocks = [x[:24, :24].reshape(6, 4, 6, 4, 3).mean((1, 3)) for x in (picture, theirs)]
    np.testing.assert_allclose(blocks[0], blocks[1], rtol=0.06)
    assert np.abs(ours["residual"][inner]).max() == 0


def test_sun_through_a_window_gives_irradiance_times_cosine():
    sun = Sun((0.0, -0.6, 0.8), (3.0, 2.0, 1.0), radius=0.01)
    window = Window((0.0, -1.5, 2.0), (0.5, 0.0, 0.0), (0.0, 0.3, 0.4))  # on the way from the origin to the sun
    scene = replace(
        lit(Part("quad", (0, 0, 0), (9, 9, 1), 0), look_at((0, -0.4, 1.0), (0, 0, 0), 20)),
        materials=(GREY, Material((0.0, 0.0, 0.0))),
        sun=sun,
        windows=(window,),
    )
    maps = render(scene, SIZE, 4, denoise=False)
    np.testing.assert_allclose(
        maps["shading"][16, 16] / maps["exposure"], np.array(sun.irradiance) * 0.8 / np.pi, rtol=1e-3
    )


def test_glossy_surface_sends_its_highlight_to_the_residual():
    camera = look_at((0.0, -2.0, 1.5), (0.0, 0.0, 0.0), 50)
    rough = lit(Part("quad", (0, 0, 0), (9, 9, 1), 0), camera)
    glossy = replace(rough, materials=(replace(GREY, specular=0.3, roughness=0.2), LAMP))
    dull, shiny = (render(s, SIZE, 64, denoise=False) for s in (rough, glossy))
    assert np.abs(dull["residual"]).max() == 0
    light = [m["shading"].mean() / m["exposure"] for m in (dull, shiny)]
    assert light[1] == pytest.approx(light[0], rel=0.05)
    assert shiny["residual"].max() > 0.2 * shiny["shading"].max()


def mirrored(scene: Scene, mesh: Mesh) -> tuple[Scene, Mesh]:
    """The scene with x negated."""
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    camera = scene.camera
    rotation = np.array(camera.rotation) * flip[:, None] * flip[None]
    moved = replace(camera, position=tuple(np.array(camera.position) * flip), rotation=tuple(map(tuple, rotation)))
    windows = [Window(*(tuple(np.array(v) * flip) for v in (w.centre, w.half_u, w.half_v))) for w in scene.windows]
    sun = scene.sun and replace(scene.sun, direction=tuple(np.array(scene.sun.direction) * flip))
    other = replace(
        mesh, position=(mesh.position * flip)[:, ::-1], normal=(mesh.normal * flip)[:, ::-1], uv=mesh.uv[:, ::-1]
    )
    return replace(scene, camera=moved, windows=tuple(windows), sun=sun), other


def test_mirrored_scene_gives_mirrored_maps():
    scene = sample_scene(12)
    mesh = tessellate(scene)
    maps, seen = (render(s, SIZE, 256, denoise=False, mesh=m) for s, m in ((scene, mesh), mirrored(scene, mesh)))
    same = {name: seen[name][:, ::-1] for name in ("normal", "depth", "albedo", "shading", "valid")}
    close = angle(maps["normal"], same["normal"] * [-1, 1, 1]) < 0.1
    assert close.mean() > 0.99  # rays that meet an edge within rounding may take either side
    assert (np.abs(maps["depth"] / same["depth"] - 1) < 1e-4).mean() > 0.99
    assert (np.abs(maps["albedo"] - same["albedo"]).max(-1) < 1e-3).mean() > 0.99
    assert (maps["valid"] == same["valid"]).mean() > 0.99
    blocks = [m.reshape(8, 4, 8, 4, 3).mean((1, 3, 4)) for m in (maps["shading"], same["shading"])]
    assert np.abs(blocks[0] - blocks[1]).mean() < 0.03 * blocks[0].mean()


def test_normals_face_the_viewer_and_maps_are_finite():
    maps = render(sample_scene(12), SIZE, 2)
    np.testing.assert_allclose(np.linalg.norm(maps["normal"], axis=-1), 1, atol=1e-5)
    towards = -(maps["normal"] * view_rays(sample_scene(12).camera, SIZE)).sum(-1)
    assert (towards > -0.05).mean() > 0.99
    for name in ("depth", "albedo", "shading", "residual"):
        assert np.isfinite(maps[name]).all() and maps[name].min() >= 0
    assert maps["depth"][maps["valid"]].min() > 0.05


def test_same_seed_same_bits():
    first, second = (render(sample_scene(31), SIZE, 3) for _ in range(2))
    for name in ("image", "normal", "depth", "albedo", "shading", "residual", "valid"):
        np.testing.assert_array_equal(first[name], second[name])
    assert first["caption"] == second["caption"] and first["factors"] == second["factors"]


@pytest.mark.parametrize("arguments", [{"size": 4}, {"samples": 0}, {"depth": 0}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="expected, got"):
        render(diffuse_room(), **{"size": SIZE, "samples": 1, **arguments})


def test_a_scene_without_light_is_refused():
    scene = replace(diffuse_room(), materials=(GREY,) * 4)
    with pytest.raises(ValueError, match="no light"):
        render(scene, SIZE, 1, denoise=False)

"""A small path tracer on Mitsuba's ray casting, which keeps diffuse and specular light of the first surface apart.

At the first surface a path gathers S, the radiance that a white diffuse surface would send (coloured irradiance / pi),
and R, what its specular lobe sends; later surfaces use their true materials. With A the first surface's diffuse
albedo, the picture is A * S + R by construction, so that noise can be filtered from S and R while A stays crisp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilora.data.scenes.world import WINDOWS, World, luminance  # sets Mitsuba's variant, which the names below need

import drjit as dr  # isort: skip
import mitsuba as mi  # isort: skip
from mitsuba import Color3f, Float, Frame3f, Normal3f, Point2f, Point3f, Ray3f, UInt32, Vector3f  # isort: skip

NEAR = 1e-3  # offset of rays that leave a surface [m]


@dataclass
class Surface:
    """What a ray hit."""

    found: mi.Bool
    point: mi.Point3f
    face: mi.UInt32
    geometric: mi.Normal3f  # outward
    normal: mi.Normal3f  # interpolated, on the ray's side
    front: mi.Bool  # hit from outside
    albedo: mi.Color3f
    glow: mi.Color3f
    specular: mi.Float
    roughness: mi.Float


def surface(world: World, ray: Ray3f, coherent: bool, active: mi.Bool) -> Surface:
    """Nearest surface along a ray, with its material."""
    hit = world.scene.ray_intersect_preliminary(ray, coherent, active)
    found = active & hit.is_valid()
    face = dr.select(found, hit.prim_index, 0)
    b1, b2 = hit.prim_uv
    b0 = 1 - b1 - b2
    geometric = dr.gather(Normal3f, world.geometric, face, found)
    corners = [dr.gather(Normal3f, world.normal, face * 3 + i, found) for i in range(3)]
    normal = dr.normalize(corners[0] * b0 + corners[1] * b1 + corners[2] * b2)
    front = dr.dot(geometric, ray.d) < 0
    normal = dr.select(front, normal, -normal)
    uvs = [dr.gather(Point2f, world.uv, face * 3 + i, found) for i in range(3)]
    material = dr.gather(UInt32, world.material, face, found)
    look = dr.gather(Vector3f, world.look, material, found)
    uv = (uvs[0] * b0 + uvs[1] * b1 + uvs[2] * b2) * look[2]
    glow = dr.gather(Color3f, world.glow, material, found)
    albedo = _texel(world, material, uv, found)
    return Surface(found, ray(hit.t), face, geometric, normal, front, albedo, glow, look[0], look[1])


def _texel(world: World, material, uv, active):
    """Nearest texel of a repeating tile."""
    first, side = dr.gather(mi.Vector2u, world.tile, material, active)
    cell = Point2f(uv[0] - dr.floor(uv[0]), uv[1] - dr.floor(uv[1])) * Float(side)
    x, y = dr.minimum(UInt32(cell[0]), side - 1), dr.minimum(UInt32(cell[1]), side - 1)
    return dr.gather(Color3f, world.texels, first + y * side + x, active)


def camera_rays(world: World, pixel: UInt32, size: int, offset: Point2f) -> Ray3f:
    """Rays through the pixels of a size x size picture; offset in 0..1 inside the pixel, unit directions."""
    width = dr.opaque(UInt32, size)
    x = (Float(pixel % width) + offset[0]) / Float(width) * 2 - 1
    y = 1 - (Float(pixel // width) + offset[1]) / Float(width) * 2
    c = world.camera
    origin, half = Point3f(c[0], c[1], c[2]), c[12]
    right, up, back = (Vector3f(c[3 + i], c[6 + i], c[9 + i]) for i in range(3))
    return Ray3f(origin, dr.normalize(right * x * half + up * y * half - back))


def _lobe(at: Surface, frame: Frame3f, out, into):
    """Specular lobe times cosine, and its sampling density; local directions. Walter et al. 2007, GGX, isotropic."""
    half = dr.normalize(out + into)
    a2 = dr.square(at.roughness)
    above = (out.z > 0) & (into.z > 0)
    d = a2 / (dr.pi * dr.square(dr.square(half.z) * (a2 - 1) + 1))

    def masking(w):  # Smith G1
        return 2 * w.z / (w.z + dr.sqrt(a2 + (1 - a2) * dr.square(w.z)))

    fresnel = at.specular + (1 - at.specular) * (1 - dr.maximum(dr.dot(out, half), 0)) ** 5
    value = fresnel * d * masking(out) * masking(into) / (4 * out.z)
    density = d * masking(out) / (4 * out.z)  # of visible normals
    shiny = above & (at.specular > 0)
    return dr.select(shiny, value, 0), dr.select(shiny, density, 0)


def _visible_normal(roughness, out, u):
    """Dupuy and Benyoub 2023, Sampling visible GGX normals with spherical caps, listing 3."""
    stretched = dr.normalize(Vector3f(roughness * out.x, roughness * out.y, out.z))
    phi = 2 * dr.pi * u[0]
    z = (1 - u[1]) * (1 + stretched.z) - stretched.z
    ring = dr.safe_sqrt(1 - z * z)
    half = Vector3f(ring * dr.cos(phi), ring * dr.sin(phi), z) + stretched
    return dr.normalize(Vector3f(roughness * half.x, roughness * half.y, half.z))


@dataclass
class Scatter:
    """Reflection at one surface towards one direction; all times cosine."""

    diffuse: mi.Float  # of a white surface: cosine / pi
    specular: mi.Float
    density: mi.Float  # of sample() [1 / sr]


def scatter(at: Surface, frame: Frame3f, out: Vector3f, into: Vector3f) -> Scatter:
    """Both lobes of a surface for unit local directions (z along the normal) to the viewer and to the light."""
    cosine = dr.select((into.z > 0) & (out.z > 0), into.z, 0)
    value, density = _lobe(at, frame, out, into)
    share = dr.select(at.specular > 0, 0.5, 0.0)
    return Scatter(cosine / dr.pi, value, (1 - share) * cosine / dr.pi + share * density)


def sample_direction(at: Surface, out: Vector3f, choice: Float, u: Point2f) -> Vector3f:
    """Local direction from the mixture of the two lobes."""
    half = _visible_normal(at.roughness, out, u)
    mirrored = 2 * dr.dot(out, half) * half - out
    return dr.select((at.specular > 0) & (choice < 0.5), mirrored, mi.warp.square_to_cosine_hemisphere(u))


def sample_lamp(world: World, point: Point3f, u: Float, v: Point2f) -> tuple[Vector3f, Float, Color3f, Float]:
    """A point on a lamp: direction to it, distance [m], radiance, density [1 / sr] (0 behind it)."""
    count, total = world.counts
    scaled = u * count
    bin_ = dr.minimum(UInt32(scaled), UInt32(count) - 1)
    keep = scaled - Float(bin_) < dr.gather(Float, world.alias, bin_)
    index = dr.select(keep, bin_, dr.gather(UInt32, world.other, bin_))
    corner, edge1, edge2, normal = (dr.gather(Vector3f, world.lamp, index * 4 + i) for i in range(4))
    b = mi.warp.square_to_uniform_triangle(v)
    away = corner + edge1 * b[0] + edge2 * b[1] - Vector3f(point)
    distance = dr.norm(away)
    direction = away / dr.maximum(distance, 1e-6)
    cosine = -dr.dot(direction, normal)
    glow = dr.gather(Color3f, world.lamp_glow, index)
    density = luminance(glow) / total * dr.square(distance) / dr.maximum(cosine, 1e-6)
    return direction, distance, glow, dr.select(cosine > 1e-6, density, 0)


def lamp_density(world: World, at: Surface, ray: Ray3f) -> Float:
    """Density [1 / sr] with which sample_lamp finds the lamp that a ray hit."""
    cosine = dr.abs(dr.dot(at.geometric, ray.d))
    return luminance(at.glow) / world.counts[1] * dr.squared_norm(at.point - ray.o) / dr.maximum(cosine, 1e-6)


def sample_sun(world: World, point: Point3f, u: Point2f) -> tuple[Vector3f, Float, Color3f]:
    """Direction into the sun's disc, distance to the window on the way (0 where there is none), irradiance."""
    s = world.sun
    centre, disc = Vector3f(s[0], s[1], s[2]), mi.warp.square_to_uniform_disk(u) * dr.tan(s[3])
    direction = dr.normalize(Frame3f(centre).to_world(Vector3f(disc[0], disc[1], 1)))
    reach = Float(0)
    for i in range(WINDOWS):
        w = world.windows[9 * i : 9 * i + 9]
        middle, half_u, half_v = (Vector3f(*w[3 * j : 3 * j + 3]) for j in range(3))
        normal = dr.cross(half_u, half_v)
        slope = dr.dot(normal, direction)
        t = dr.dot(normal, middle - Vector3f(point)) / dr.select(dr.abs(slope) > 1e-9, slope, 1e9)
        where = Vector3f(point) + direction * t - middle
        inside = (dr.abs(dr.dot(where, half_u)) < dr.squared_norm(half_u)) & (
            dr.abs(dr.dot(where, half_v)) < dr.squared_norm(half_v)
        )
        reach = dr.select(inside & (t > 0), t, reach)
    return direction, reach, Color3f(s[4], s[5], s[6])


def _offset(at: Surface, direction):
    """Start of a ray that leaves a surface towards a direction."""
    side = dr.select(dr.dot(at.geometric, direction) > 0, NEAR, -NEAR)
    return at.point + at.geometric * side


def _direct(world: World, at: Surface, frame: Frame3f, out, rng, active):
    """Light from one lamp sample and one sun sample: diffuse (of a white surface) and specular parts."""
    direction, distance, glow, density = sample_lamp(
        world, at.point, rng.next_float32(), Point2f(rng.next_float32(), rng.next_float32())
    )
    lit = active & (density > 0)
    start = _offset(at, direction)
    lit &= ~world.scene.ray_test(Ray3f(start, direction, distance - 2 * NEAR, 0, []), lit)
    to_lamp = scatter(at, frame, out, frame.to_local(direction))
    # Balance heuristic (Veach and Guibas 1995).
    weight = dr.select(lit, glow / (density + to_lamp.density), 0)
    direction, reach, irradiance = sample_sun(world, at.point, Point2f(rng.next_float32(), rng.next_float32()))
    into = frame.to_local(direction)
    lit = active & (reach > 0) & (into.z > 0) & (irradiance[1] > 0)
    start = _offset(at, direction)
    lit &= ~world.scene.ray_test(Ray3f(start, direction, reach - 2 * NEAR, 0, []), lit)
    to_sun = scatter(at, frame, out, into)
    shine = dr.select(lit, irradiance, 0)
    return to_lamp.diffuse * weight + to_sun.diffuse * shine, to_lamp.specular * weight + to_sun.specular * shine


@dataclass
class Paths:
    """State of all paths between two surfaces."""

    rng: mi.PCG32
    ray: mi.Ray3f
    shading: mi.Color3f
    rest: mi.Color3f
    solid: mi.Float  # 1 where the first surface is no lamp
    beta_s: mi.Color3f  # throughput towards the shading
    beta_r: mi.Color3f  # and towards the residual
    density: mi.Float  # with which the ray's direction was sampled [1 / sr]
    bounce: mi.UInt32
    active: mi.Bool


def trace(world: World, size: int, samples: int, seed: int, depth: int) -> tuple[Color3f, Color3f, Float]:
    """Paths through every pixel: S [n], R [n], and 1 where the first surface is no lamp [n]; n = size^2 * samples.

    `depth` counts surfaces that scatter light; the samples of a pixel lie next to each other.
    """
    count = size * size * samples
    index = dr.arange(UInt32, count)
    per_pixel = dr.opaque(UInt32, samples)
    rng = mi.PCG32(size=count, initstate=dr.opaque(mi.UInt64, seed))
    # The first dimension of the jitter is stratified over the samples of a pixel.
    jitter = Point2f((Float(index % per_pixel) + rng.next_float32()) / Float(per_pixel), rng.next_float32())
    ray = camera_rays(world, index // per_pixel, size, jitter)
    black, white = (dr.full(Color3f, value, count) for value in (0, 1))
    start = Paths(rng, ray, black, Color3f(black), Float(0), white, Color3f(white), Float(0), UInt32(0), mi.Bool(True))
    limit = dr.opaque(UInt32, depth)
    (end,) = dr.while_loop((start,), lambda path: path.active, lambda path: (_bounce(world, path, limit),))
    return end.shading, end.rest, end.solid


def _bounce(world: World, path: Paths, limit) -> Paths:
    """Follow the rays to their next surface, gather its light and leave it."""
    at, first, active = surface(world, path.ray, False, path.active), path.bounce == 0, path.active
    lamp = at.found & at.front & (luminance(at.glow) > 0)
    weight = path.density / (path.density + lamp_density(world, at, path.ray))
    seen = dr.select(lamp & ~first, at.glow * weight, 0)
    path.shading += path.beta_s * seen
    path.rest += path.beta_r * seen
    active &= at.found & ~(luminance(at.glow) > 0) & (path.bounce < limit)
    path.solid = dr.select(first & active, 1, path.solid)
    frame, rng = Frame3f(at.normal), path.rng
    out = frame.to_local(-path.ray.d)
    diffuse, specular = _direct(world, at, frame, out, rng, active)
    both = at.albedo * diffuse + specular
    path.shading += dr.select(active, path.beta_s * dr.select(first, diffuse, both), 0)
    path.rest += dr.select(active, path.beta_r * dr.select(first, specular, both), 0)
    into = sample_direction(at, out, rng.next_float32(), Point2f(rng.next_float32(), rng.next_float32()))
    step = scatter(at, frame, out, into)
    scale = dr.select(step.density > 1e-8, 1 / step.density, 0)
    both = (at.albedo * step.diffuse + step.specular) * scale
    path.beta_s *= dr.select(first, step.diffuse * scale, both)
    path.beta_r *= dr.select(first, step.specular * scale, both)
    path.density = step.density
    direction = frame.to_world(into)
    path.ray = Ray3f(_offset(at, direction), direction)
    path.active = active & (step.density > 1e-8) & (dr.max(path.beta_s + path.beta_r) > 0)
    path.bounce += 1
    return path


def first_hits(world: World, size: int, side: int) -> dict[str, np.ndarray]:
    """What a regular side x side grid of rays sees in every pixel; n = size^2, k = side^2.

    Returns `normal` [3, n, k] RUB camera axes, `albedo` and `emission` [3, n, k] linear, `distance` [n, k] planar z,
    `face` [n, k], -1 for nothing.
    """
    index = dr.arange(UInt32, size * size * side * side)
    grid = dr.opaque(UInt32, side)
    cell = index % (grid * grid)
    offset = Point2f((Float(cell % grid) + 0.5) / Float(grid), (Float(cell // grid) + 0.5) / Float(grid))
    ray = camera_rays(world, index // (grid * grid), size, offset)
    at = surface(world, ray, True, mi.Bool(True))
    c = world.camera
    axes = [Vector3f(c[3 + i], c[6 + i], c[9 + i]) for i in range(3)]
    normal = [dr.dot(at.normal, axis) for axis in axes]
    depth = -dr.dot(at.point - ray.o, axes[2])
    shines = at.front & (luminance(at.glow) > 0)
    emission = dr.select(shines, at.glow, 0)
    albedo = dr.select(luminance(at.glow) > 0, 0, at.albedo)
    face = dr.select(at.found, mi.Int32(at.face), -1)
    dr.eval(normal, depth, emission, albedo, face)
    shape = (size * size, side * side)
    rgb = {"normal": normal, "albedo": albedo, "emission": emission}
    maps = {name: np.stack([np.array(v[i]).reshape(shape) for i in range(3)]) for name, v in rgb.items()}
    return {**maps, "distance": np.array(depth).reshape(shape), "face": np.array(face).reshape(shape)}

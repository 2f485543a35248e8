import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch.testing import assert_close

from ilora import checks, images
from ilora.adapters import controls, file, formats, lora
from ilora.adapters.file import About
from ilora.config import AdapterConfig
from ilora.generators import load
from ilora.intrinsics import NAMES, intrinsic
from ilora.predict import FORMATS, LOG, Predictor, find, gather, grouped, named, predict


def draw(path, name, *, method="lora", seed=0, random_weights=None, alpha=None):
    """Write an adapter with random weights to a run folder ``path``; returns the folder."""
    toy = load("toy")
    config = AdapterConfig(method=method, rank=2, alpha=alpha)
    if random_weights is not None:
        controls.randomise(toy.network, random_weights)
    lora.attach(toy.network, config, toy.targets["attention"], seed)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        key: 0.3 * torch.randn(value.shape, generator=generator) for key, value in lora.state(toy.network).items()
    }
    about = About(
        generator="toy",
        fingerprint=toy.fingerprint,
        intrinsic=name,
        units=intrinsic(name).units,
        adapter=config,
        random_weights=random_weights,
    )
    file.write(path / file.FILE, weights, about)
    return path


def picture(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_hand(folder, image):
    """Maps at the working size with the adapter attached, not merged."""
    weights, about = file.read(folder)
    toy = load("toy")
    if about.random_weights is not None:
        controls.randomise(toy.network, about.random_weights)
    lora.attach(toy.network, about.adapter, toy.targets["attention"])
    lora.load_state(toy.network, weights)
    with torch.no_grad():
        return intrinsic(about.intrinsic).from_image(toy.forward(toy.encode(image)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run an intrinsic."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(NAMES):
        draw(folder / name, name, seed=seed)
    return folder


@pytest.fixture
def photos(tmp_path):
    """Four photos of three shapes, two of one stem, and a broken file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, (name, size) in enumerate(
        {"a.png": (40, 40), "a.bmp": (40, 40), "b.png": (20, 60), "c.png": (61, 20)}.items()
    ):
        pixels = ((picture(*size, seed).movedim(0, -1) + 1) * 127.5).round().to(torch.uint8).numpy()
        Pillow.fromarray(pixels).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:80])
    return folder


def test_maps_are_those_of_the_attached_adapters(runs):
    image = picture(32, 32)
    maps = Predictor(runs)(image)
    assert tuple(maps) == NAMES
    for name, map in maps.items():
        assert_close(map, by_hand(runs / name, image[None])[0], atol=1e-5, rtol=1e-4)


def test_changing_adapters_leaves_the_base_to_the_bit(runs):
    toy = load("toy")
    before = {name: tensor.clone() for name, tensor in toy.network.state_dict().items()}
    predictor = Predictor(runs, generator=toy)
    first = predictor(picture(32, 32))
    again = predictor(picture(32, 32))
    assert all(torch.equal(first[name], again[name]) for name in NAMES)
    assert all(torch.equal(value, before[name]) for name, value in toy.network.state_dict().items())
    code = toy.encode(picture(32, 32)[None])
    untouched = predictor.paint(picture(32, 32)[None], adapted=False)["albedo"]
    assert torch.equal(untouched, intrinsic("albedo").from_image(toy.forward(code)))


def test_one_picture_is_encoded_once_for_all_adapters(runs, monkeypatch):
    predictor = Predictor(runs)
    encode, calls = predictor.generator.encode, []
    monkeypatch.setattr(predictor.generator, "encode", lambda image: calls.append(1) or encode(image))
    predictor(picture(32, 32))
    assert len(calls) == 1


@pytest.mark.parametrize("method", ["dora", "rslora", "full", "scratch"])
def test_every_method_predicts_like_its_attached_form(method, tmp_path):
    folder = draw(tmp_path / "run", "albedo", method=method, alpha=5.0)
    assert_close(
        Predictor(folder)(picture(32, 32))["albedo"], by_hand(folder, picture(32, 32)[None])[0], atol=1e-5, rtol=1e-4
    )


def test_a_control_on_random_weights_is_painted_by_those_weights(tmp_path):
    folder = draw(tmp_path / "run", "albedo", random_weights=3)
    toy = load("toy")
    before = {name: tensor.clone() for name, tensor in toy.network.state_dict().items()}
    map = Predictor(folder, generator=toy)(picture(32, 32))["albedo"]
    assert_close(map, by_hand(folder, picture(32, 32)[None])[0], atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in toy.network.state_dict().items())
    assert (map - Predictor(draw(tmp_path / "own", "albedo"))(picture(32, 32))["albedo"]).abs().max() > 0.01


@pytest.mark.parametrize("to", formats.FORMATS)
def test_exported_adapters_paint_the_same(to, runs, tmp_path):
    folder = draw(tmp_path / "run", "depth", method="lora", alpha=5.0)
    exported = formats.export(folder, to, tmp_path / to)
    expected = Predictor(folder)(picture(32, 32))["depth"]
    for path in (exported, exported.parent):
        assert_close(Predictor(path)(picture(32, 32))["depth"], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (97, 64), (33, 31)])
def test_maps_have_the_size_of_the_picture_and_normals_stay_unit(runs, height, width):
    maps = Predictor(runs)(picture(height, width))
    assert {name: tuple(map.shape) for name, map in maps.items()} == {
        "normal": (3, height, width),
        "depth": (1, height, width),
        "albedo": (3, height, width),
        "shading": (3, height, width),
    }
    assert_close(maps["normal"].norm(dim=0), torch.ones(height, width), atol=1e-3, rtol=0)
    assert all(map.isfinite().all() for map in maps.values())


def test_mirrored_predictions_commute_with_the_mirror(runs):
    predictor = Predictor(runs, mirror=True)
    straight, turned = (predictor.maps(image[None]) for image in (picture(32, 32), picture(32, 32).flip(-1)))
    for name in NAMES:
        assert_close(turned[name], intrinsic(name).flip(straight[name]), atol=1e-5, rtol=1e-4)
    assert_close(straight["normal"].norm(dim=1), torch.ones(1, 32, 32), atol=1e-3, rtol=0)


def test_a_batch_gives_what_its_pictures_give_alone(runs):
    predictor = Predictor(runs, intrinsics=["shading"])
    pictures = torch.stack([picture(32, 32, seed) for seed in range(3)])
    together = predictor.maps(pictures)["shading"]
    assert_close(together, torch.cat([predictor.maps(one[None])["shading"] for one in pictures]), atol=1e-5, rtol=1e-4)


def test_what_find_refuses(runs, tmp_path):
    assert [source.intrinsic for source in find([runs], intrinsics=["albedo", "normal"])] == ["albedo", "normal"]
    draw(tmp_path / "one", "depth")
    with pytest.raises(FileNotFoundError, match="got depth in"):
        find([tmp_path / "one"], intrinsics=["normal"])
    with pytest.raises(ValueError, match="one adapter for depth"):
        find([runs, tmp_path / "one"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="'normals'"):
        find([runs], intrinsics=["normals"])
    bare = tmp_path / "bare.safetensors"
    file.tensors.write(bare, file.read(tmp_path / "one")[0], {})
    with pytest.raises(ValueError, match="does not say what it paints"):
        find([bare])
    with pytest.raises(ValueError, match="which generator"):
        Predictor(bare, intrinsics=["depth"])
    image = picture(32, 32)
    ours = Predictor(tmp_path / "one")(image)["depth"]
    assert_close(Predictor(bare, generator="toy", intrinsics=["depth"])(image)["depth"], ours)


def test_adapters_of_another_generator_are_refused(tmp_path):
    weights, about = file.read(draw(tmp_path / "run", "depth"))
    file.write(tmp_path / "other.safetensors", weights, about.replace(fingerprint="feed"))
    with pytest.raises(ValueError, match="feed"):
        Predictor(tmp_path / "other.safetensors")


def test_pictures_in_another_form_are_refused(runs):
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        Predictor(runs)(picture(8, 8) * 4)


def test_a_folder_of_photos(runs, photos, tmp_path, capsys):
    result = predict(photos, runs, tmp_path / "maps", formats=list(FORMATS), batch=2)
    assert sorted(path.name for path in result.files) == ["a.bmp", "a.png", "b.png", "c.png"]
    assert list(result.failed) == [str(photos / "broken.png")]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "broken.png" in said[0]
    written = {path.name for path in (tmp_path / "maps").iterdir()}
    expected = {
        f"{stem}.{name}{end}" for stem in ("a_png", "a_bmp", "b", "c") for name in NAMES for end in FORMATS.values()
    }
    beside = {f"{name}.json" for name in expected if name.endswith(".npy")}
    assert written == expected | beside | {LOG, "sheet.png"}
    assert images.read(result.sheet).shape[1] > 4 * 192
    rows = [json.loads(line) for line in (tmp_path / "maps" / LOG).read_text().splitlines()]
    assert {(row["name"], row["height"], row["width"]) for row in rows} == {
        ("a_png", 40, 40), ("a_bmp", 40, 40), ("b", 20, 60), ("c", 61, 20)
    }  # fmt: skip


def test_files_hold_the_map_and_its_story(runs, photos, tmp_path):
    predictor = Predictor(runs)
    predict(photos / "c.png", predictor, tmp_path, formats=["npy", "npz", "exr", "png16"])
    maps = predictor(images.read(photos / "c.png"))
    for name, map in maps.items():
        for kind, rounding in {"npy": 0, "npz": 0, "exr": 0, "png16": 1e-4}.items():
            stored = images.read_map(tmp_path / f"c.{name}{FORMATS[kind]}")
            assert_close(stored.values, map, atol=rounding, rtol=0)
        about = json.loads((tmp_path / f"c.{name}.npy.json").read_text())
        assert about["units"] == intrinsic(name).units and about["adapter"] == predictor.digest(name)
        low, high = map.min().item(), map.max().item()
        assert_close(
            torch.tensor([float(word) for word in about["range"].split(" to ")]),
            torch.tensor([low, high]),
            rtol=1e-4,
            atol=1e-5,
        )
        assert images.read_map(tmp_path / f"c.{name}.16bit.png").about["intrinsic"] == name
    assert np.load(tmp_path / "c.depth.npy").shape == (61, 20)


def test_resume_predicts_only_what_is_not_there(runs, photos, tmp_path):
    out = tmp_path / "maps"
    predict(photos, runs, out)
    (out / "b.normal.npy").unlink()
    with (out / LOG).open("a") as log:
        log.write('{"name": "half a li')
    changed = picture(40, 40, 9)
    Pillow.fromarray(((changed.movedim(0, -1) + 1) * 127.5).to(torch.uint8).numpy()).save(photos / "a.png")
    again = predict(photos, runs, out, resume=True)
    assert sorted(path.name for path in again.files) == ["a.png", "b.png"]
    assert sorted(path.name for path in again.skipped) == ["a.bmp", "c.png"]
    assert predict(photos, runs, out, resume=True).files == {}
    other = predict(photos, draw(tmp_path / "other", "depth", seed=8), out, resume=True)
    assert len(other.files) == 4


def test_resume_takes_what_another_call_made_for_what_it_is(runs, photos, tmp_path):
    photo, out = photos / "b.png", tmp_path / "maps"
    one, other = runs / "depth", draw(tmp_path / "other", "depth", seed=8)

    def predicted(adapters, *formats, mirror=False):
        adapters = Predictor(adapters, mirror=mirror)
        return bool(predict(photo, adapters, out, formats=formats or ["npy"], resume=True).files)

    assert predicted(one) and not predicted(one)
    assert predicted(other) and predicted(one)  # it lay there from the other adapter
    assert np.load(out / "b.depth.npy").tolist() == Predictor(one)(images.read(photo))["depth"][0].tolist()
    assert predicted(other, "png16") and predicted(other, "npy") and not predicted(other, "npy", "png16")
    assert predicted(other, mirror=True) and not predicted(other, mirror=True) and predicted(other)
    assert predicted(runs / "normal") and not predicted(other)  # beside each other
    assert not predicted([runs / "normal", tmp_path / "other"])


def test_a_prediction_that_is_not_finite_is_reported_and_not_written(photos, tmp_path):
    weights, about = file.read(draw(tmp_path / "run", "albedo"))
    file.write(tmp_path / "run" / file.FILE, {name: value * float("nan") for name, value in weights.items()}, about)
    result = predict(photos / "c.png", tmp_path / "run", tmp_path / "maps")
    assert "not finite" in result.failed[str(photos / "c.png")]
    assert not list((tmp_path / "maps").glob("c.*"))


def test_words_that_name_nothing_are_reported(photos, tmp_path, capsys):
    failed = {}
    (tmp_path / "empty").mkdir()
    words = [photos / "*.png", photos / "b.png", tmp_path / "empty", tmp_path / "no.jpg", f"{tmp_path}/**/*.bmp"]
    assert [path.name for path in gather(words, failed=failed)] == ["a.png", "b.png", "broken.png", "c.png", "a.bmp"]
    assert list(failed) == [str(tmp_path / "empty"), str(tmp_path / "no.jpg")]
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_names_are_unique_whatever_the_stems(tmp_path):
    paths = [tmp_path / name for name in ("x/a.png", "x/A.jpg", "y/a.png", "b.c.png", "a_png.gif")]
    names = named(paths)
    assert list(names.values()) == paths
    assert len({name.casefold() for name in names}) == 5
    assert list(names)[3:] == ["b.c", "a_png-3"] and list(names)[:3] == ["a_png", "A_jpg", "a_png-2"]


def test_long_names_are_cut_and_stay_apart(runs, photos, tmp_path):
    """File systems allow 255 bytes, and outputs have endings of their own; é has two bytes."""
    long = "é" * 124
    for last in "ab":
        (photos / "c.png").with_name(f"{long}{last}.png").write_bytes((photos / "c.png").read_bytes())
    assert list(named([photos / f"{long}a.png", photos / f"{long}b.png"])) == [100 * "é", 100 * "é" + "-2"]
    result = predict(f"{photos}/é*", runs / "depth", tmp_path / "maps", formats=list(FORMATS))
    assert not result.failed and len(list((tmp_path / "maps").glob("é*.depth.*"))) == 2 * (len(FORMATS) + 1)


def test_groups_are_of_one_key_bounded_and_complete():
    items = [(index * 7 % 5, index) for index in range(57)]
    seen = []
    groups = list(grouped(iter(items), key=lambda item: item[0], batch=3))
    for group in groups:
        assert len({key for key, _ in group}) == 1 and len(group) <= 3
        seen += group
    assert sorted(seen) == sorted(items)
    taken = []
    first = next(grouped((taken.append(n) or n for n in range(1000)), key=lambda n: n, batch=2))
    assert first == [0] and len(taken) == 8


def test_a_file_whose_library_is_missing_does_not_stop_the_others(runs, photos, tmp_path, monkeypatch):
    images.write_exr(photos / "d.exr", torch.rand(3, 20, 20), about={})
    monkeypatch.setitem(sys.modules, "OpenEXR", None)  # as if it were not installed
    result = predict(photos, runs / "depth", tmp_path / "maps")
    assert len(result.files) == 4 and set(result.failed) == {str(photos / "broken.png"), str(photos / "d.exr")}
    assert result.failed[str(photos / "d.exr")] == "EXR files need OpenEXR: pip install 'ilora[exr]'"


def test_the_folder_of_the_photos_is_refused_as_the_output(runs, photos, tmp_path):
    (photos / LOG).write_text("{}\n")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    (tmp_path / "link").symlink_to(photos)
    for words, out in ((photos, photos), (photos / "b.png", photos), (photos, tmp_path / "link")):
        with pytest.raises(ValueError, match=r"out must not hold the inputs, got .*\.(png|bmp) in it; choose another"):
            predict(words, runs, out)
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    out = photos / "maps"
    assert len(predict(photos, runs / "depth", out).files) == 4
    with pytest.raises(ValueError, match=r"maps/a_bmp\.depth\.npy in it"):  # now the pattern also means the maps
        predict(f"{photos}/**/*.*", runs / "depth", out)


def test_unknown_formats_are_refused(runs, photos, tmp_path):
    with pytest.raises(ValueError, match="png16"):
        predict(photos, runs, tmp_path, formats=["png"])
    assert checks.choice("format", "npy", known=list(FORMATS)) == "npy"

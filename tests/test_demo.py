import json
from pathlib import Path

import pytest

from ilora import images
from ilora.demo import DemoConfig, demo
from ilora.run import Run
from tests import world
from tests.test_report import Reader


def test_the_demonstration_ends_with_a_table_a_picture_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = world.write(tmp_path / "world", train=4, test=3), tmp_path / "demo"
    config = DemoConfig(
        generator="toy", data=str(folder), intrinsics=("normal", "depth"), labels=4, steps=3, samples=2, images=2
    )
    html = demo(out, config=config, device="cpu")
    shown = capsys.readouterr()
    values = json.loads((out / "normal.json").read_text())
    assert f"{values['metrics']['mean_angle']['mean']:.1f}" in shown.out and "abs rel" in shown.out
    assert [line[0] for line in shown.err.splitlines() if line[1:3] == ". "] == list("1234")
    sheet, address = (line.split()[1] for line in shown.out.splitlines() if line.startswith(("picture:", "page:")))
    assert images.read(sheet).shape[1] > 2 * 192 and Path(address) == html
    assert len(list((out / "maps").glob("*.npy"))) == 4

    page = Reader(html.read_text())
    assert page.open == [] and all(source.startswith("data:image/png;base64,") for source in page.addresses)
    headings = [
        "Its own pictures, read by itself",
        *(f"{n}: {part}" for n in ("normal", "depth") for part in ("result", "best, middle, worst")),
    ]
    assert [word for word in page.words if word in headings] == headings

    adapters = [Run(out / "runs" / name).adapter for name in config.intrinsics]
    before = [path.stat().st_mtime_ns for path in adapters]
    assert demo(out, config=config, device="cpu") == html
    assert [path.stat().st_mtime_ns for path in adapters] == before
    with pytest.raises(ValueError, match="steps"):
        demo(out, config=config.replace(steps=4), device="cpu")

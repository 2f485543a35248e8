"""Figures: the numbers are in them, the same numbers give the same text, nothing is fetched."""

import xml.etree.ElementTree as ElementTree

from ilora.studies.figures import Bar, Curve, Mark, Panel, bars, heat, panels

NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"


def words(svg: str) -> list[str]:
    """Every text of a figure."""
    return ["".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_panels_name_axes_curves_and_lines_and_leave_out_what_is_not_measured() -> None:
    marks = (Mark(1, 3.0, 2.5, 3.5), Mark(4, 2.0, 1.5, 2.5), Mark(16, NAN, NAN, NAN))
    panel = Panel("rooms", "rank", "error [deg]", (Curve("default", marks),), {"codec ceiling": 1.0}, log=True)
    svg = panels([[panel, panel], [panel]])
    found = words(svg)
    assert {"rooms", "rank", "error [deg]"} <= set(found) and found.count("rank") == 3
    assert found.count("default") == 1 and found.count("codec ceiling") == 1  # one legend for all
    assert {"1", "4"} <= set(found)
    assert svg == panels([[panel, panel], [panel]])


def test_bars_and_heat_maps_write_their_labels_and_numbers() -> None:
    items = [Bar("ours", "a", 1.0, 0.8, 1.1), Bar("none", "a", NAN, NAN, NAN), Bar("theirs", "b", -0.5, -0.6, -0.2)]
    found = words(bars(items, x="position", lines={"good": 0.5}))
    assert {"ours", "theirs", "position", "a", "b", "good"} <= set(found) and "none" not in found
    found = words(
        heat([[1.5, NAN], [22.0, 3.25]], rows=["down", "up"], columns=["0", "999"], x="time", y="block", unit="deg")
    )
    assert {"1.50", "–", "22.0", "3.25", "down", "up", "0", "999", "time", "block", "deg"} <= set(found)


def test_nothing_measured_still_gives_a_figure() -> None:
    assert "x" in words(bars([], x="x"))
    assert "y" in words(panels([[Panel("t", "x", "y", (Curve("c", ()),), log=True)]]))

import re
from pathlib import Path

import pytest

from ilora import protocols
from ilora.protocols import words
from ilora.protocols.published import PROTOCOLS

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"


def test_every_protocol_has_a_line_and_its_facts():
    listing = words.listing().splitlines()
    assert [line.split()[0] for line in listing] == list(PROTOCOLS)
    assert all(len(line) < 150 for line in listing)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_description_says_source_mask_alignment_and_aggregation(name):
    told = words.description(protocols.protocol(name))
    assert told.startswith(f"{name}: ") and "source" in told and "aggregation" in told
    assert max(map(len, told.splitlines())) <= words.WIDTH
    for quantity in protocols.protocol(name).rules:
        assert re.search(rf"^(?:.* and )?{quantity}(?: and .*)?$", told, re.MULTILINE)


def test_the_numbers_of_nyu_in_words():
    facts = words.facts(protocols.protocol("marigold-nyu"), "depth")
    assert "rows 45 to 471 of 480" in facts["mask"] and facts["mask"].endswith("truth above 0.001 m and below 10 m")
    assert facts["clip"] == "0.001 m to 10 m" and "sq_rel [m]" in facts["metrics"]
    assert (
        words.facts(protocols.protocol("dsine-nyu"), "normal")["aggregation"] == "pooled over the pixels of all images"
    )


def test_the_page_explains_every_protocol():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in PROTOCOLS if f"`{name}`" not in page] == []

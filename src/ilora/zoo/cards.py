"""The embedded generators by name, and the card that each one carries."""

import json
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def names() -> list[str]:
    """Names of the generators that come with the package."""
    return sorted(card.parent.name for card in WEIGHTS.glob("*/card.json"))


def folder(name: str) -> Path:
    """Where an embedded generator's pipeline lies.

    Raises:
        ValueError: none of that name is embedded.
    """
    if name not in names():
        raise ValueError(f"expected an embedded generator among {', '.join(names()) or 'none yet'}, got {name!r}")
    return WEIGHTS / name


def card(name: str) -> dict:
    """Everything known about an embedded generator, as ``ilora.zoo.measure`` wrote it."""
    return json.loads((folder(name) / "card.json").read_text())


def show(name: str) -> str:
    """The card in words and tables."""
    facts = card(name)
    weights = " + ".join(f"{part} {count:,}" for part, count in facts["parameters"].items())
    lines = [
        f"{name}: {facts['description']}",
        "",
        f"  weights          {weights} = {sum(facts['parameters'].values()):,}",
        f"  size             {facts['megabytes']:.1f} MB in half precision",
        f"  learned from     {facts['data']}",
        f"  pictures seen    {', '.join(f'{stage} {count:,}' for stage, count in facts['images_seen'].items())}",
        f"  sheet            {folder(name) / 'samples.png'}",
        "",
        f"  codec ceiling    {facts['ceiling_protocol']}",
    ]
    for kind, row in facts["ceiling"].items():
        lines.append(f"    {kind:<12}" + "".join(f"{metric:>14} {value:.4g}" for metric, value in row.items()))
    lines += ["", f"  quality          {facts['quality_protocol']}"]
    heads = {"frechet": "Fréchet", "kernel": "kernel", "sliced_wasserstein": "sliced Wasserstein"}
    heads |= {"bits_per_token": "bits a token"} if "bits_per_token" in facts["ladder"][-1] else {}
    lines.append("    " + "".join(f"{head:>20}" for head in ("images seen", *heads.values())))
    for rung in facts["ladder"]:
        values = (f"{rung['images']:,}", *(f"{rung[key]:.4f}" for key in heads))
        lines.append("    " + "".join(f"{value:>20}" for value in values))
    for part, rows in facts["loss"].items():
        lines += [
            "",
            f"  {part} loss",
            "    " + "  ".join(f"{row['images'] / 1000:.0f}k {row['loss']:.4f}" for row in rows),
        ]
    return "\n".join(lines)

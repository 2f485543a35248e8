"""Tables of a report as Markdown and as LaTeX, for READMEs and papers."""

from pathlib import Path

from ilora.report import Table
from ilora.run import replacing

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "÷": r"$\div$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "–": "--",
}


def markdown(table: Table) -> str:
    """A pipe table; strong rows are bold, the caption is a paragraph below."""
    lines = [_row(table.header), _row(["---", *["---:"] * (len(table.header) - 1)])]
    for place, row in enumerate(table.rows):
        cells, strong = [cell.replace("|", r"\|") for cell in row], place in table.strong
        lines.append(_row([f"**{cell}**" if cell and strong else cell for cell in cells]))
    return "\n".join([*lines, *(["", table.caption] if table.caption else [])]) + "\n"


def latex(table: Table) -> str:
    r"""A ``table`` environment that needs the package booktabs; strong rows are bold."""
    lines = [
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{_escaped(table.caption)}}}"] if table.caption else []),
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        _columns([_escaped(cell) for cell in table.header]),
        r"\midrule",
    ]
    for place, row in enumerate(table.rows):
        cells = [_escaped(cell) for cell in row]
        lines.append(
            _columns([rf"\textbf{{{cell}}}" if cell else "" for cell in cells] if place in table.strong else cells)
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


FORMATS = {".md": markdown, ".tex": latex}  # by the file's suffix


def check(path: Path) -> None:
    """Refuse, before hours of work, the name of a file that ``save`` would refuse after them.

    Raises:
        ValueError: a suffix that is not in ``FORMATS``.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"a table's file must end in {' or '.join(FORMATS)}, got {path.name!r}; rename it")


def save(path: Path, table: Table) -> Path:
    """Write a table in the form that the file's name asks for, in one step; returns the path.

    Raises:
        ValueError: as ``check``.
    """
    check(path)
    with replacing(path) as partial:
        partial.write_text(FORMATS[path.suffix](table), encoding="utf-8")
    return path


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _columns(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)

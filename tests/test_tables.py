import pytest

from ilora.report import Table
from ilora.tables import latex, markdown, save

TABLE = Table(("method", "error [95 %]"), (("a_b", "1.0 ÷ 2"), ("c|d", "3")), "100 % & more", frozenset({1}))


def test_markdown_by_hand():
    assert markdown(TABLE).splitlines() == [
        "| method | error [95 %] |",
        "| --- | ---: |",
        "| a_b | 1.0 ÷ 2 |",
        r"| **c\|d** | **3** |",
        "",
        "100 % & more",
    ]


def test_latex_by_hand():
    lines = latex(TABLE).splitlines()
    assert r"\caption{100 \% \& more}" in lines and r"\begin{tabular}{lr}" in lines
    assert r"method & error [95 \%] \\" in lines
    assert r"a\_b & 1.0 $\div$ 2 \\" in lines
    assert r"\textbf{c|d} & \textbf{3} \\" in lines
    for name in ("table", "tabular"):
        assert latex(TABLE).count(rf"\begin{{{name}}}") == latex(TABLE).count(rf"\end{{{name}}}") == 1


def test_a_backslash_is_escaped_once():
    assert r"\textbackslash{}x\{y\}" in latex(Table((r"\x{y}", "b"), ()))


def test_the_suffix_decides(tmp_path):
    assert save(tmp_path / "a.md", TABLE).read_text() == markdown(TABLE)
    assert save(tmp_path / "a.tex", TABLE).read_text() == latex(TABLE)
    with pytest.raises(ValueError, match=r"end in .md or .tex, got 'a.doc'"):
        save(tmp_path / "a.doc", TABLE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "a.tex"]

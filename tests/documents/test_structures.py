"""The structures of a document, whoever makes it: pandoc and we ourselves, held to the same."""

import datetime as dt
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import docx
import pytest
from docx.shared import Cm

from tests.documents.conftest import Maker, document, png
from tests.documents.reading import read
from wordmill.documents import look, word
from wordmill.documents.parsing import parse
from wordmill.documents.tree import Document, Paragraph


def test_words(maker: Maker) -> None:
    found = maker.read(
        "Some **bold**, *slanted*, ~~gone~~ and `code`,\nH<sub>2</sub>O and x<sup>2</sup>.\n\n"
        "Next &amp; last<br>line."
    )
    assert found.paragraphs == [
        "Some bold, slanted, gone and code,\nH2O and x2.",
        "Next & last\nline.",
    ]
    assert found.styled == {
        "strong": ["bold"], "emphasis": ["slanted"], "strike": ["gone"], "sub": ["2"],
        "super": ["2"],
    }  # fmt: skip
    assert found.title == "A title"


def test_headings(maker: Maker) -> None:
    found = maker.read("# One\n\n## Two *em*\n\n###### Six\n\nSetext\n===\n")
    assert found.headings == [(1, "One"), (2, "Two em"), (6, "Six"), (1, "Setext")]


def test_lists_nest_and_begin_anew(maker: Maker) -> None:
    found = maker.read(
        "1. First\n   - inner *one*\n     - deeper\n   - inner two\n2. Second\n\n   and more\n"
        "3. Third\n\nBetween.\n\n1. Again\n2. Twice\n\n- [x] done\n- [ ] open\n"
    )
    assert found.items == [
        (0, "number", "First"), (1, "bullet", "inner one"), (2, "bullet", "deeper"),
        (1, "bullet", "inner two"), (0, "number", "Second"), (0, "number", "Third"),
        (0, "number", "Again"), (0, "number", "Twice"), (0, "☒", "done"), (0, "☐", "open"),
    ]  # fmt: skip
    assert found.paragraphs == ["and more", "Between."]


def test_a_table_has_its_cells_and_their_sides(maker: Maker) -> None:
    found = maker.read(
        "| Name | Value | Mid | Plain |\n|:-----|------:|:---:|---|\n"
        "| `a\\|b` | **2**<br>three | c | d |\n| q | 10 |\n\nAfter."
    )
    assert found.tables == [
        [["Name", "Value", "Mid", "Plain"], ["a|b", "2\nthree", "c", "d"], ["q", "10", "", ""]]
    ]
    assert [one if one != "left" else "default" for one in found.aligns[0]] == [
        "default", "right", "center", "default"
    ]  # fmt: skip
    assert found.paragraphs == ["After."]


def test_code_keeps_every_letter_and_has_colours(maker: Maker) -> None:
    text = 'def f(x):\n\n    """Says."""\n\treturn f"{x}"  # <b>&amp;</b>'
    more = "    indented\n      more\n\n```\nplain ~~no~~\n```"
    found = maker.read(f"```python\n{text}\n```\n\n{more}")
    assert [one[0] for one in found.code] == [text, "indented\n  more", "plain ~~no~~"]
    assert found.code[0][1] > 3
    assert found.code[2][1] == 1


def test_code_of_no_known_language_is_code_all_the_same(maker: Maker) -> None:
    found = maker.read("```no-such-language {.x} <y>\na < b\n```\n\n~~~~\n```\n~~~~")
    assert [one[0] for one in found.code] == ["a < b", "```"]


def test_quotes(maker: Maker) -> None:
    found = maker.read("> One\n> two.\n>\n> Three.\n\nAfter.")
    assert found.quotes == ["One\ntwo.", "Three."]
    assert found.paragraphs == ["After."]


def test_formulas_are_formulas(maker: Maker) -> None:
    found = maker.read(
        r"Inline $e^{i\pi}+1=0$ and \(a_b\)."
        "\n\n$$\nx = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}\n$$\n\n"
        "\\[\n\\sum_{i=0}^{n} i\n\\]\n\nIt costs $5 here and $10 there."
    )
    assert found.formulas == [
        "sSup: eiπ+1=0", "sSub: ab", "f rad sSup: x=−b±b2−4ac2a", "nary: i=0ni",
    ]  # fmt: skip
    assert "It costs $5 here and $10 there." in found.paragraphs


@pytest.mark.parametrize("latex", [r"\frac{", "}{", r"\nope{x}", "^", "{" * 500, "a" * 9000])
def test_what_is_no_latex_is_still_there(maker: Maker, latex: str) -> None:
    data = maker.bytes(document(f"Before ${latex}$ after."))
    text = zipfile.ZipFile(io.BytesIO(data)).read("word/document.xml").decode()
    assert "after." in text
    between = text.partition("Before")[2].partition("after.")[0]
    assert set(latex) - set("{}^\\") <= set(between)


def test_footnotes(maker: Maker) -> None:
    found = maker.read(
        "One[^1] and two[^long].\n\n[^1]: The **first**.\n\n[^long]: The second.\n\n    Its end."
    )
    assert found.notes == ["The first.", "The second.Its end."]
    assert found.paragraphs == ["One and two."]


def test_links_lead_where_they_say_and_nowhere_else(maker: Maker) -> None:
    found = maker.read(
        "[one](https://example.org/a?b=c&d) <mailto:a@example.org> https://example.org/x_y "
        "[bad](javascript:alert(1)) [local](file:///etc/passwd) [unc](\\\\\\\\host\\\\share) "
        "[here](../../x) example.com"
    )
    assert found.links == [
        ("one", "https://example.org/a?b=c&d"), ("mailto:a@example.org", "mailto:a@example.org"),
        ("https://example.org/x_y", "https://example.org/x_y"),
    ]  # fmt: skip
    assert all(one.startswith(("https://", "mailto:")) for one in found.external)


def test_only_pictures_that_the_document_brings(maker: Maker) -> None:
    found = maker.read(
        "![chart](chart.png)\n\n![far](http://127.0.0.1:9/x.png) ![near](/etc/passwd) "
        "![data](data:image/png;base64,iVBORw0KGgo=)"
    )
    assert found.pictures == [("chart", png(), 7.9)]
    assert found.links == [("far", "http://127.0.0.1:9/x.png")]
    assert found.paragraphs[-1].startswith("far near ")


def test_a_title_page(maker: Maker) -> None:
    found = maker.read("Text.", title_page=True, author="Ann & Bob", made=dt.date(2026, 1, 2))
    assert (found.title, found.front, found.page_breaks) == (
        "A title", ["Ann & Bob", "2026-01-02"], 1
    )  # fmt: skip
    assert found.author == "Ann & Bob"
    assert maker.read("Text.", author="Ann").front == []


def test_html_is_text(maker: Maker) -> None:
    found = maker.read("<script>alert(1)</script>\n\n<img src=x onerror=y> <u>x</u> <!-- c -->")
    assert found.paragraphs == [
        "<script>alert(1)</script>", "<img src=x onerror=y> <u>x</u> <!-- c -->"
    ]  # fmt: skip


def test_nothing_of_pandocs_or_words_own_is_understood(maker: Maker) -> None:
    text = '`<w:p/>`{=openxml}\n\n{{include x}} ::: {custom-style="x"} {.include}'
    found = maker.read(text)
    assert found.paragraphs[0] == "<w:p/>{=openxml}"
    assert found.paragraphs[1].startswith("{{include x}} :::")


def test_right_to_left(maker: Maker) -> None:
    found = maker.read("مرحبا بالعالم\n\n- שלום\n\nLatin מלה\n\n## עברית")
    assert found.right_to_left == ["مرحبا بالعالم", "שלום", "עברית"]
    assert found.paragraphs[-1] == "Latin מלה"


ZALGO = "z" + "".join(chr(0x300 + n) for n in range(80)) + "algo"


def test_odd_letters(maker: Maker) -> None:
    found = maker.read(f"{ZALGO} \x00\x08\x0b \ud800 \ufffe 👩‍👩‍👧 \u202eabc\u202c end")
    assert found.paragraphs[0].startswith(ZALGO)
    assert found.paragraphs[0].endswith("end")
    assert "👩‍👩‍👧" in found.paragraphs[0]


HARDLY = (
    "", "\n\n", "#", "-", "- ", "1.", ">", "```", "$$", "[^1]", "[^1]: x", "|a|\n|-|", "---",
    "- - - x", "> - > x", "***", "![](chart.png)", "[^a]\n\n[^a]: [^a]",
    "- ```\n  x\n  ```\n- | a |\n  |---|\n  | b |\n- > q\n",
)  # fmt: skip


def test_what_is_hardly_anything(maker: Maker) -> None:
    blocks = [block for text in HARDLY for block in document(text).blocks]
    found = read(maker.bytes(replace(document(""), blocks=blocks)))
    assert found.title == "A title"
    assert found.tables == [[["a"]], [["a"], ["b"]]]
    assert [one[0] for one in found.code] == ["", "x"]


def test_a_long_message_and_a_deep_one(maker: Maker) -> None:
    words = "word " * 13_000  # 64 KB
    assert maker.read(words).paragraphs == [words.strip()]
    deep = "\n".join("  " * n + f"- level {n}" for n in range(12))
    found = maker.read(deep)
    assert len(found.items) + len(found.paragraphs) == 12
    maker.read(">" * 5000 + " x")
    maker.read("[" * 3000 + "](" * 10 + "*" * 3000)


@pytest.mark.parametrize("deep", [20, 127, 300, 560])
@pytest.mark.parametrize("around", ["\\sqrt{%s}", "\\sum %s", "{%s}^2"])
def test_formulas_as_deep_as_can_be_written_are_shown(around: str, deep: int) -> None:
    latex = "x"
    for _ in range(deep):
        latex = around % latex
    made = docx.Document(io.BytesIO(word.write(Document("", parse(f"Here: ${latex}$")))))
    (paragraph,) = made.paragraphs
    assert "x" in "".join(paragraph._p.itertext())


def test_many_formulas_that_do_not_end_are_read_in_one_go() -> None:
    parse("To begin with.")
    begun = time.process_time()
    parse("\\[a " * 60_000)
    assert time.process_time() - begun < 4.0  # half a second; eight where each looks to the end
    (paragraph,) = parse(r"See \[ x^2 \] here.")
    assert isinstance(paragraph, Paragraph)
    assert len(paragraph.inside) == 3


def test_the_template_gives_pages_and_fonts(maker: Maker, tmp_path: Path) -> None:
    own = docx.Document()
    own.sections[0].page_width = Cm(10)
    own.styles["Heading 1"].font.name = "Letterhead Sans"
    own.add_paragraph("The text of a template is not wanted.")
    path = tmp_path / "own.docx"
    own.save(str(path))

    template = look.completed(path.read_bytes())
    text = "# One\n\n> quote\n\n```\ncode\n```\n\n| a |\n|---|\n| b |"
    made = maker.bytes(document(text), template)
    found = docx.Document(io.BytesIO(made))
    assert abs(found.sections[0].page_width - Cm(10)) < 1000
    assert found.styles["Heading 1"].font.name == "Letterhead Sans"
    assert "not wanted" not in "".join(one.text for one in found.paragraphs)
    assert {"Source Code", "Block Text"} <= {one.style.name for one in found.paragraphs}


def test_two_people_at_once_share_nothing(maker: Maker) -> None:
    def one(number: int) -> str:
        made = maker.bytes(Document("Report", parse(f"Of person {number}.")))
        return read(made).paragraphs[0]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == [f"Of person {n}." for n in range(8)]

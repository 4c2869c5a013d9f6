"""The programs that make documents: bounded, alone, and ended with all that they started."""

import os
import stat
import time
from pathlib import Path

import pytest

from tests.documents.conftest import document
from wordmill.documents import look, pandoc, programs, word
from wordmill.documents.making import Maker
from wordmill.errors import ExportError

ALL = """
# Water mills

Some **bold** words, $e^{i\\pi}+1=0$ and a [link](https://example.org).[^1]

1. First
   - inner
2. Second

| a | b |
|:--|--:|
| 1 | 2 |

```python
def f(x): return x
```

$$x = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}$$

![chart](chart.png)

مرحبا

[^1]: A note.
"""


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_one_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    program = script(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(ExportError, match=r"program took longer than 1 s for this document"):
        programs.run(program, [], tmp_path, seconds=1)
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 20
    while _runs(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_one_that_fails_says_why_without_secrets(tmp_path: Path) -> None:
    program = script(tmp_path, "echo 'no; api_key=abcdefgh12345' >&2; exit 7")
    with pytest.raises(ExportError) as error:
        programs.run(program, [], tmp_path, seconds=20)
    assert str(error.value) == ("program made no document (status 7): no; api_key=********")


def test_it_sees_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMILL_SECRET_KEY", "k" * 40)
    told = programs.run(script(tmp_path, "env; pwd"), [], tmp_path, seconds=20).decode()
    assert "kkkk" not in told
    assert f"HOME={tmp_path}" in told
    assert told.splitlines()[-1] == str(tmp_path)


def test_what_it_may_write_is_bounded(tmp_path: Path) -> None:
    program = script(tmp_path, "head -c 400000000 /dev/zero > big")
    with pytest.raises(ExportError, match="made no document"):
        programs.run(program, [], tmp_path, seconds=60)
    assert os.path.getsize(tmp_path / "big") <= 256 * 1024**2  # noqa: PTH202


def test_where_pandoc_fails_the_document_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = script(tmp_path, "cat > /dev/null; exit 3")
    monkeypatch.setattr(pandoc, "_version", lambda _: [1, 23])
    monkeypatch.setattr(pandoc, "works", lambda: True)
    monkeypatch.setattr(programs, "pandoc", lambda: broken)
    assert Maker().make(document("Text."), "docx")[:2] == b"PK"
    assert "A document was made without pandoc" in caplog.text


def test_a_pandoc_that_cannot_work_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = script(tmp_path, "echo Could not find data file >&2; exit 97")
    monkeypatch.setattr(programs, "pandoc", lambda: broken)
    maker = Maker(office=False)
    assert maker.forms == ("docx",)
    assert maker.make(document("Text."), "docx")[:2] == b"PK"
    assert caplog.text.count("Documents are made without pandoc") == 1


def test_pandoc_reads_nothing_that_a_text_names(tmp_path: Path) -> None:
    """Also by what it would understand, were it not sandboxed."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"do not read me")
    made = pandoc.write(document(f"![x]({secret}) ![y](file://{secret})"), "docx", look.own())
    assert b"do not read me" not in made


@pytest.mark.parametrize("way", ["pandoc", "own"])
def test_libreoffice_reads_them_and_makes_pdf(way: str) -> None:
    if programs.office() is None:
        if os.environ.get("CI"):
            pytest.fail("LibreOffice is not installed: `apt-get install libreoffice-writer-nogui`")
        pytest.skip("LibreOffice is not installed")
    maker = Maker(pandoc=way == "pandoc")
    made = maker.make(document(ALL, title_page=True, author="Ann"), "pdf")
    assert made.startswith(b"%PDF")
    assert made.count(b"/Type/Page\n") + made.count(b"/Type /Page\n") >= 2 or len(made) > 10_000


def test_what_we_write_ourselves_is_small_and_quick() -> None:
    text = "\n\n".join(f"## Part {n}\n\nWords **and** `more` of them, {n}." for n in range(2000))
    begun = time.perf_counter()
    made = word.write(document(text))
    assert len(made) < 400_000
    assert time.perf_counter() - begun < 60  # about one second where nothing else runs

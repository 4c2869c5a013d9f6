"""Documents as files: which of the programs that are here makes which form.

A .docx is made by pandoc where it is found, and by `word` otherwise, or where pandoc fails. An .odt
is made by pandoc, or by LibreOffice out of the .docx; a .pdf by LibreOffice alone.
"""

import logging
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from wordmill.documents import look, pandoc, programs, word
from wordmill.documents.tree import Document
from wordmill.errors import ConfigError, ExportError, ExtraMissing

Form: TypeAlias = Literal["docx", "odt", "pdf"]

AT_ONCE: Final = 2
"""Documents that are made at the same time by one process."""
_OFFICE_SECONDS: Final = 120.0

log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """How a form is called: what people say, and what programs do."""

    label: str
    media_type: str


KINDS: Final[Mapping[Form, Kind]] = {
    "docx": Kind("Word", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    "odt": Kind("ODT", "application/vnd.oasis.opendocument.text"),
    "pdf": Kind("PDF", "application/pdf"),
}


class Maker:
    """Makes documents. Safe from any thread.

    pandoc, office: whether these programs are used where they are found.
    """

    def __init__(self, *, pandoc: bool = True, office: bool = True) -> None:
        self._pandoc, self._office = pandoc, office
        self._room = threading.BoundedSemaphore(AT_ONCE)

    @property
    def pandoc(self) -> bool:
        """Whether pandoc makes the documents."""
        return self._pandoc and pandoc.works()

    @property
    def office(self) -> bool:
        """Whether LibreOffice is there."""
        return self._office and programs.office() is not None

    @property
    def forms(self) -> tuple[Form, ...]:
        """What can be made here."""
        try:
            look.opened()
        except ExtraMissing:
            return ()
        more: list[Form] = ["odt"] if self.pandoc or self.office else []
        return ("docx", *more, "pdf") if self.office else ("docx", *more)

    def make(self, document: Document, form: Form, template: bytes | None = None) -> bytes:
        """The document as a file. template: one that was `look.completed`, for its look.

        Raises ExtraMissing, ConfigError for a form that nothing here makes, ExportError where a
        program failed.
        """
        if form == "odt" and not (self.pandoc or self.office):
            raise ConfigError(
                "An ODT is made by pandoc or LibreOffice, and neither is installed where Wordmill "
                "runs. A Word document (docx) can be made."
            )
        if form == "pdf" and not self.office:
            raise ConfigError(
                "A PDF is made by LibreOffice, which is not installed where Wordmill runs. A Word "
                "document (docx) can be made."
            )
        with self._room:
            if form == "odt" and self.pandoc:
                return pandoc.write(document, "odt")
            made = self._docx(document, template or look.own())
            return made if form == "docx" else _converted(made, form)

    def _docx(self, document: Document, template: bytes) -> bytes:
        if self.pandoc:
            try:
                return pandoc.write(document, "docx", template)
            except ExportError as error:
                log.warning("A document was made without pandoc: %s", error)
        return word.write(document, template)


def _converted(made: bytes, form: Form) -> bytes:
    """A .docx by LibreOffice as something else; it sees a folder of its own, and nothing more."""
    program = programs.office()
    if program is None:
        raise AssertionError("LibreOffice is not here: ask `programs.office` first")
    with tempfile.TemporaryDirectory(prefix="wordmill-document-") as place:
        folder = Path(place)
        (folder / "document.docx").write_bytes(made)
        arguments = [
            f"-env:UserInstallation=file://{folder / 'profile'}", "--headless", "--norestore",
            "--nolockcheck", "--convert-to", form, "--outdir", str(folder), "document.docx",
        ]  # fmt: skip
        programs.run(program, arguments, folder, seconds=_OFFICE_SECONDS)
        target = folder / f"document.{form}"
        if not target.is_file():  # it says nothing of that, and exits with 0
            raise ExportError(f"LibreOffice made no {form} of this document.")
        return target.read_bytes()

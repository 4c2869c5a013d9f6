"""Texts of the workbench in the reader's language: gettext, one `.po` file a language.

A further language is a file `locale/<code>.po`. It is read as it is and compiled in memory, so
nothing has to be built. English is the language of the code and has no file.
"""

import gettext
import io
from functools import cache
from importlib.resources import files
from typing import Final

ENGLISH: Final = "en"


@cache
def languages() -> tuple[str, ...]:
    """The codes of all languages, English first."""
    found = (files(__package__) / "locale").iterdir()
    codes = sorted(file.name.removesuffix(".po") for file in found if file.name.endswith(".po"))
    return (ENGLISH, *codes)


@cache
def texts(language: str) -> gettext.NullTranslations:
    """The texts of a language; English where there are none."""
    if language == ENGLISH or language not in languages():
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    source = (files(__package__) / "locale" / f"{language}.po").read_bytes()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source), locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


@cache
def own_name(language: str) -> str:
    """What its speakers call a language: Deutsch."""
    from babel import Locale

    return (Locale.parse(language).get_display_name() or language).capitalize()


def chosen(*wishes: str | None) -> str:
    """The first wish that there is: "de-AT" finds "de". English otherwise.

    A wish may be a header `Accept-Language`.
    """
    for wish in wishes:
        for part in (wish or "").split(","):
            code = part.partition(";")[0].strip().lower().partition("-")[0].partition("_")[0]
            if code in languages():
                return code
    return ENGLISH

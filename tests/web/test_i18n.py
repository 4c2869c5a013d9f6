"""Every text of the workbench is there in every language that it claims to speak."""

import string
from importlib.resources import files
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import wordmill.channels.web as web
from wordmill.channels.web import i18n

FOLDER = Path(web.__file__).parent


def texts() -> set[str]:
    found = extract_from_dir(FOLDER, method_map=[("**.py", "python")], keywords={"_": None})
    return {str(message) for _, _, message, _, _ in found}


def others() -> list[str]:
    return [code for code in i18n.languages() if code != i18n.ENGLISH]


def test_there_are_texts_and_a_second_language() -> None:
    assert len(texts()) > 150
    assert "de" in i18n.languages()


@pytest.mark.parametrize("language", others())
def test_a_language_is_complete_and_has_nothing_left_over(language: str) -> None:
    with (files(web) / "locale" / f"{language}.po").open("rb") as file:
        catalog = read_po(file, locale=language, abort_invalid=True)
    translated = {str(message.id): str(message.string) for message in catalog if message.id}
    assert set(translated) == texts()
    assert [text for text, words in translated.items() if not words.strip()] == []
    assert not any(message.fuzzy for message in catalog if message.id)


@pytest.mark.parametrize("language", others())
def test_what_is_filled_in_is_the_same_in_every_language(language: str) -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}

    gettext = i18n.texts(language).gettext
    assert {text: fields(gettext(text)) for text in texts()} == {
        text: fields(text) for text in texts()
    }


def test_no_text_is_put_together_out_of_the_translators_sight() -> None:
    """`_` with anything but a literal, or inside a formatted one, is not found by their tools."""
    import ast

    wrong: list[str] = []
    literal: set[str] = set()
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "_"
            ):
                (argument,) = node.args
                if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                    wrong.append(f"{file.name}:{node.lineno}")
                else:
                    literal.add(argument.value)
    assert wrong == []
    assert literal - texts() == set()


@pytest.mark.parametrize(
    ("wishes", "language"),
    [
        (("de",), "de"),
        ((None, "de-AT,en;q=0.5"), "de"),
        (("fr", "en-GB"), "en"),
        (("fr-FR,de;q=0.5",), "de"),
        (("xx", None), "en"),
        ((), "en"),
        (("../../de",), "en"),
    ],
)
def test_the_first_wish_that_there_is(wishes: tuple[str | None, ...], language: str) -> None:
    assert i18n.chosen(*wishes) == language


def test_a_language_that_is_not_there_is_english() -> None:
    assert i18n.texts("xx").gettext("Sign in") == "Sign in"
    assert i18n.texts("de").gettext("Sign in") == "Anmelden"

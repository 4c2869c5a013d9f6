import time

import pytest

from wordmill.errors import RecipeError
from wordmill.recipes.reading import read
from wordmill.types import Value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31 10:00:00", "2024-01-31 10:00:00"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!float 12", 12.0),
        ("12345678901234567890123", 12345678901234567890123),
        ("[1, a, {b: c}]", [1, "a", {"b": "c"}]),
        ("{1: a, true: b, 2024-01-31: c}", {"1": "a", "true": "b", "2024-01-31": "c"}),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Value) -> None:
    found = read(f"key: {text}").root.value["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "r.yaml: the text is empty. A recipe needs at least `columns:`."),
        ("a:\n\tb: 1", "r.yaml:2:1: a tab cannot indent a line in YAML. Use spaces."),
        (
            "a: b: c",
            ("r.yaml:1:5: a colon is not expected here. Put a text that holds `: ` in quotes, or "
            "check the indentation."),
        ),
        (
            "a: {{ mood }}",
            'r.yaml:1:4: a text that begins with {{ must be in quotes: "{{ name }}".',
        ),
        (
            "a:\n  - {{ mood }} and more",
            'r.yaml:2:5: a text that begins with {{ must be in quotes: "{{ name }}".',
        ),
        ("a: @b", "r.yaml:1:4: a text cannot begin with '@'. Put it in quotes."),
        (
            "a: [1, 2",
            ("r.yaml:2:1: it is not YAML: did not find expected ',' or ']' "
            "(while parsing a flow sequence from line 1)."),
        ),
        (
            "a: 'it's'",
            ("r.yaml:1:8: a name with a colon is expected here. Has a text above a quote too many "
            "or too few, or is this line indented otherwise?"),
        ),
        ("a: 1\nb: 2\na: 3", "r.yaml:3:1: 'a' stands here a second time; first in line 1."),
        ("a: {x: 1, x: 2}", "r.yaml:1:11: 'x' stands here a second time; first in line 1."),
        ("---\na: 1\n---\nb: 1", ("r.yaml:3:1: a second document begins here. A recipe is one "
                                 "document.")),
        ("a: !!python/name:os.system x", ("r.yaml:1:4: the tag !!python/name:os.system is not for "
                                         "recipes.")),
        ("a: !custom {}", "r.yaml:1:4: the tag !custom is not for recipes."),
        ("a: .inf", "r.yaml:1:4: .inf is no number that JSON knows. Put text in quotes."),
        ("a: !!int x", "r.yaml:1:4: x is no !!int."),
        ("a: *b", "r.yaml:1:4: nothing before this line is anchored as &b."),
        ("a: &b [*b]", "r.yaml:1:8: nothing before this line is anchored as &b."),
        ("<<: {}", "r.yaml:1:1: `<<` is no part of YAML 1.2: write the options out."),
        ("? [a]\n: b", "r.yaml:1:3: a key must be a name, not a mapping or a list."),
        ("a: &x k\n*x : b", "r.yaml:2:1: a key must be a name, not an alias."),
        ("a: b\0c", "r.yaml:1:5: a NUL character cannot stand in a text."),
        ("a: \a", "r.yaml:1:4: the character U+0007 cannot stand in a text."),
        ("a: \ud800", "r.yaml:1:4: the character U+D800 cannot stand in a text."),
        ('a: "\\0"', "r.yaml:1:4: a text cannot hold a NUL character or half a surrogate pair."),
        (b"a: caf\xe9", "r.yaml:1:7: the byte 0xe9 is not UTF-8. Save the file as UTF-8."),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence_with_its_place(text: str | bytes, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(text, "r.yaml")
    assert str(caught.value) == sentence


def test_hostile_texts_cost_neither_time_nor_memory() -> None:
    tenfold = "a0: &a0 [1]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    texts = {"[" * 100_000: "50 deep", "{a: " * 100_000: "50 deep", tenfold: "200,000 values"}
    started = time.monotonic()
    for text, words in texts.items():
        with pytest.raises(RecipeError, match=words):
            read(text)
    with pytest.raises(RecipeError, match="at most 8,000,000 are read"):
        read("a: " + "x" * 8_000_000)
    assert time.monotonic() - started < 1


def test_an_alias_stands_for_its_value() -> None:
    document = read("a: &x [1, 2]\nb: *x\n")
    assert document.root.value == {"a": [1, 2], "b": [1, 2]}
    assert document.place(("b", 1)) == (1, 11)


TEXT = """\
# a comment
columns:
  mood: {type: category, values: [calm, "é"]}
  ticket:
    type: prompt
    prompt: |
      A customer.
      Mood: {{ mood }}, moody.
    system: "moon {{ mood }}"
"""


@pytest.mark.parametrize(
    ("path", "how", "place"),
    [
        (("columns", "mood", "type"), {}, (3, 16)),
        (("columns", "mood", "type"), {"key": True}, (3, 10)),
        (("columns", "mood", "values", 1), {}, (3, 41)),
        (("columns", "ticket"), {}, (4, 3)),
        (("columns", "ticket", "nothing"), {}, (4, 3)),
        (("columns", "ticket", "prompt"), {}, (6, 13)),
        (("columns", "ticket", "prompt"), {"line": 2}, (8, 1)),
        (("columns", "ticket", "prompt"), {"word": "mood"}, (8, 16)),
        (("columns", "ticket"), {"word": "mood"}, (8, 16)),
        (("columns", "ticket", "system"), {"word": "mood"}, (9, 22)),
        (("columns", "ticket", "system"), {"word": "nowhere"}, (9, 13)),
        (("other",), {}, (2, 1)),
        ((), {}, (2, 1)),
    ],
)
def test_a_path_is_found_in_the_text(
    path: tuple[str | int, ...], how: Value, place: tuple[int, int]
) -> None:
    assert read(TEXT).place(path, **how) == place


def test_a_byte_order_mark_is_skipped() -> None:
    assert read(b"\xef\xbb\xbfa: 1").root.value == {"a": 1}
    assert read("\ufeffa: 1").root.value == {"a": 1}

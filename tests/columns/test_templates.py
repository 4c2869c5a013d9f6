"""Templates: what they give, what they refuse, and that none runs on."""

import time
from collections.abc import Mapping

import pytest

from wordmill.columns.sandbox import LIMIT
from wordmill.columns.templates import compile_expression, compile_template
from wordmill.errors import RecipeError
from wordmill.types import CellError, Row, Value

ROW: Row = {
    "row": 3,
    "mood": "calm",
    "flag": True,
    "nothing": None,
    "price": 1.5,
    "tags": ["a", "b"],
    "person": {"name": "Ann", "items": [1, 2], "age": 41, "city": None},
    "long": "x" * 500_000,
}


def rendered(text: str, row: Row = ROW, parameters: Mapping[str, Value] | None = None) -> str:
    made = compile_template(text, "columns.note.template", parameters).render(row)
    assert isinstance(made, str), made
    return made


def fault(text: str, row: Row = ROW) -> str:
    """The detail of the cell error that a template ends with."""
    made = compile_template(text, "columns.note.template").render(row)
    assert isinstance(made, CellError), made
    assert made.cause == "template"
    return made.detail


def refusal(text: str) -> str:
    """The sentence that a template is refused with when it is read."""
    with pytest.raises(RecipeError) as caught:
        compile_template(text, "columns.note.template")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("{{ mood }} {{ row }} {{ price }}", "calm 3 1.5"),
        ("{{ flag }} {{ nothing }} {{ tags }}", 'true null ["a","b"]'),
        ("{{ person.name }} {{ person['age'] }} {{ tags[0] }}", "Ann 41 a"),
        ("{{ person.items }}", "[1,2]"),
        ("{% for name, value in person.items() %}{{ name }}{% endfor %}", "'items'"),
        ("{{ tags | join(', ') }}{{ ', '.join(tags) }}", "a, ba, b"),
        ("{{ mood | upper }} {{ mood.title() }} {{ flag | upper }}", "CALM Calm TRUE"),
        ("{{ {'a': [1, none]} | json }}", '{"a":[1,null]}'),
        ("{{ [1] | json(indent=true) }}", "[\n  1\n]"),
        ("{{ 'one two three' | words(2) }}|{{ 'one two' | wordcount }}", "one two|2"),
        ("{{ 'a long line of text' | truncate(10) }}", "a long..."),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ '%s is %05.1f' | format(mood, 3) }}", "calm is 003.0"),
        ("{{ mood.replace('c', 'C') }}{{ mood | replace('alm', 'old') }}", "Calmcold"),
        ("{{ [3, 1, 2] | sort | first }} {{ [1, 2] | sum }} {{ 2.567 | round(1) }}", "1 3 2.6"),
        ("{{ range(3) | list }} {{ range(7) | batch(3) }}", "[0,1,2] [[0,1,2],[3,4,5],[6]]"),
        ("{{ missing | default('none') }} {{ missing is defined }}", "none false"),
        ("{{ [person] | map(attribute='name') | join }}", "Ann"),
        ("{{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 10 }} {{ 'a' ~ 1 ~ none }}", "3 1 1024 a1null"),
        (("{% set n = namespace(x=0) %}{% for t in tags %}{% set n.x = n.x + 1 %}{% endfor %}"
         "{{ n.x }}"), "2"),
        ("{% for t in tags %}{{ loop.index }}{{ loop.cycle('-', '.') }}{% endfor %}", "1-2."),
        ("{% filter upper %}{{ mood }}!{% endfilter %}", "CALM!"),
        ("{% set text %}{{ mood }}{% endset %}{{ text }}", "calm"),
        ("{{ 12345678901234567890123 }}", "12345678901234567890123"),
        ("{{ 'yes' if flag }}{{ 'no' if not flag }}", "yes"),
        ("{{ '<b>' }} & {{ '<' ~ '>' }}", "<b> & <>"),
        ("ends with one newline\n", "ends with one newline"),
        ("a\n  {% if flag %}\nb\n  {% endif %}\nc", "a\nb\nc"),
    ],
)  # fmt: skip
def test_what_a_template_gives(text: str, expected: str) -> None:
    if expected == "'items'":  # a field called like a method is the field
        assert fault(text).startswith("'list' cannot be called in a template")
    else:
        assert rendered(text) == expected


def test_parameters_come_with_the_template_and_the_row_comes_first() -> None:
    text = "{{ parameters.tone }}"
    assert rendered(text, {"row": 0}, {"tone": "warm"}) == "warm"
    assert rendered(text, {"row": 0, "parameters": {"tone": "cold"}}, {"tone": "warm"}) == "cold"


def test_names_are_what_a_row_must_have() -> None:
    template = compile_template(
        "{% set a = mood %}{% for x in tags if x %}{{ x }}{{ loop.index }}{{ a }}{% endfor %}"
        "{{ person.name }}{{ parameters.n }}{{ row }}{{ item.text }}{{ variant.name }}"
        "{{ range(2) }}",
        "note",
    )
    assert template.names == {"mood", "tags", "person"}
    assert template.parameters == {"n"}
    assert compile_template("no names", "note").names == frozenset()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{ mood.__class__ }}",
         ("columns.note.template:1:1: '__class__' is refused: a name that begins with an "
         "underscore reaches for Python's internals, and a template reads values only")),
        ("one\n{{ mood['__class__'] }}",
         ("columns.note.template:2:1: '__class__' is refused: a name that begins with an "
         "underscore reaches for Python's internals, and a template reads values only")),
        ("{{ person._id }}",
         ("columns.note.template:1:1: '_id' is refused: a name that begins with an underscore "
         "reaches for Python's internals, and a template reads values only; read a field of that "
         'name with ["_id"]')),
        ("{% include 'a' %}",
         ("columns.note.template:1:1: {% include %} is not for templates of a recipe: they hold "
         "text, {% if %}, {% for %} and {% set %}")),
        ("{% macro f() %}{% endmacro %}",
         ("columns.note.template:1:1: {% macro %} is not for templates of a recipe: they hold "
         "text, {% if %}, {% for %} and {% set %}")),
        ("{% for x in tags recursive %}{% endfor %}",
         "columns.note.template:1:1: a loop cannot be recursive"),
        ("a\nb {{ mood | uper }}",
         "columns.note.template:2:13: there is no filter 'uper'. Did you mean 'upper'?"),
        ("{{ mood | random }}",
         "columns.note.template:1:11: there is no filter 'random'. Did you mean 'round'?"),
        ("{{ mood is strange }}",
         ("columns.note.template:1:12: there is no test 'strange'. Did you mean 'string' or "
          "'true' or 'lessthan'?")),
        ("{{ mood",
         "columns.note.template:1:1: it ends after '{{ mood', where '}}' is missing"),
        ("{{ }}", "columns.note.template:1:4: '}}' stands where a value is expected"),
        ("a\n{{ mood ; }}", "columns.note.template:2:9: ';' stands where '}}' is expected"),
        ("{{ mood. }}", "columns.note.template:1:1: a dot is followed by no name"),
        ("{{ 'a }}", "columns.note.template:1:1: the quote ' is opened and not closed"),
        ("{# a", "columns.note.template:1:1: the comment {# is not closed: #} is missing"),
        ("{% repeat %}",
         ("columns.note.template:1:1: there is no {% repeat %}; a template knows {% if %}, "
          "{% for %} and {% set %}")),
        ("{% endif %}",
         ("columns.note.template:1:1: {% endif %} closes nothing; a template knows {% if %}, "
          "{% for %} and {% set %}")),
        ("{% if mood %}\nx",
         "columns.note.template:2:1: {% if %} is not closed: {% endif %} is missing"),
    ],
)  # fmt: skip
def test_what_is_refused_when_it_is_read(text: str, sentence: str) -> None:
    assert refusal(text) == sentence


@pytest.mark.parametrize(
    "text",
    [
        "{{" + "(" * 5000,
        "{{ " + "[" * 300 + "]" * 300 + " }}",
        "{% if flag %}" * 200 + "{% endif %}" * 200,
        "{% for x in tags %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "9" * 5000 + " }}",
    ],
)
def test_what_is_too_deep_or_too_large_is_refused(text: str) -> None:
    assert "the template is nested too deep or holds a number too large" in refusal(text)


def test_a_template_above_the_limit_is_refused() -> None:
    assert refusal("x" * (LIMIT + 1)) == (
        "columns.note.template: the template has 1,000,001 characters, and at most 1,000,000 are "
        "read"
    )


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("{{ mod }}", "'mod' is undefined"),
        ("{{ person.nam }}", "an object has no field 'nam'. Did you mean 'name'?"),
        ("{{ person.city.name }}", "null has no 'name'"),
        ("{{ missing.name }}", "'missing' is undefined"),
        ("{{ tags[5] }}", "a list of 2 has no 5"),
        ("{{ mood.size }}", "a text has no 'size'"),
        ("one\ntwo {{ mood + 1 }}", 'line 2: can only concatenate str (not "int") to str'),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for x in price %}{% endfor %}", "a loop needs a list, and this is 1.5"),
        ("{{ mood % 3 }}",
         "texts are put together with ~ or with the filter `format`, not with %"),
        ("{{ range }}", "a function has no text and no JSON"),
        ("{{ [missing] }}", "'missing' is undefined"),
        ("{{ mood() }}", "'str' cannot be called in a template"),
    ],
)  # fmt: skip
def test_what_fails_a_cell(text: str, detail: str) -> None:
    assert fault(text) == detail


@pytest.mark.parametrize(
    "text",
    [
        "{{ mood.format.__self__ }}",
        "{{ mood['__class__'] }}",
        "{{ person.__init__.__globals__ }}",
        "{{ range.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{{ (mood | upper).__class__.__mro__ }}",
    ],
)
def test_internals_are_refused_when_they_can_be_seen(text: str) -> None:
    assert "reaches for Python's internals" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ mood.format('a') }}",
        "{{ '{0.__class__}'.format(mood) }}",
        "{{ mood.format_map(person) }}",
        "{{ [mood] | map(attribute='__class__') | list }}",
        "{{ [mood] | map('attr', '__class__') | list }}",
        "{{ [person] | groupby('__class__') }}",
        "{{ [person, person] | sort(attribute='__class__') }}",
        "{{ mood['__cl' ~ 'ass__'] }}",
        "{{ range['__glo' ~ 'bals__'] }}",
        "{{ tags.append(1) }}",
        "{{ person.update({'name': 'Eve'}) }}",
        "{{ person.pop('name') }}",
        "{{ mood.encode() }}",
        "{{ loop }}",
        "{{ self }}",
        "{{ cycler }}",
        "{% for x in tags %}{{ loop['_iterable'] }}{% endfor %}",
    ],
)
def test_internals_behind_a_mask_fail_the_cell(text: str) -> None:
    before = repr(ROW["person"]), repr(ROW["tags"])
    assert fault(text)
    assert (repr(ROW["person"]), repr(ROW["tags"])) == before


TOO_LONG = "a text or list would be longer than 1,000,000 characters or items"
TOO_MUCH = "it does more than 5,000,000 units of work; loop over less"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("{{ 'a' * 10 ** 9 }}", TOO_LONG),
        ("{{ [1] * 10 ** 9 }}", TOO_LONG),
        ("{{ 9 ** 9 ** 9 ** 9 ** 9 }}", "a number would have more than 4,096 bits"),
        ("{{ 10 ** 1000 * 10 ** 1000 }}", "a number would have more than 4,096 bits"),
        ("{{ range(10 ** 12) | list }}", TOO_LONG),
        ("{{ long ~ long ~ long }}", TOO_LONG),
        ("{{ long + long + long }}", TOO_LONG),
        ("{{ [long, long, long] | join }}", TOO_LONG),
        ("{{ [long, long, long] }}", TOO_LONG),
        ("{{ long.replace('x', long) }}", TOO_LONG),
        ("{{ long | replace('x', 'yyy') }}", TOO_LONG),
        ("{{ (long ~ '\n' * 100000) | indent(99) }}", TOO_LONG),
        ("{{ '%999999999d' | format(1) }}", "the width in the format '%999999999d' is above 999"),
        ("{{ '%*d' | format(999999999, 1) }}", "the width in the format '%*d' is above 999"),
        ("{{ tags | batch(10 ** 9, 'x') }}",
         "batch takes a size from 1 to 10,000, not 1000000000"),
        ("{{ long }}{{ long }}{{ long }}",
         "the text has 1,500,000 characters, above 1,000,000"),
        ("{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}", TOO_MUCH),
        ("{% for a in range(1000) %}" + "x" * 9000 + "{% endfor %}", TOO_MUCH),
        ("{% for a in range(40000) %}{{ long | length }}{% endfor %}", TOO_MUCH),
        (("{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}"
         "{% endfor %}"), TOO_LONG),
        (("{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}"
         "{% endfor %}{{ n.x }}"), TOO_LONG),
        ("{% set a = [1] * 1000 %}{% set b = [a] * 1000 %}{{ [b] * 1000 }}", TOO_LONG),
        ("{{ ([0] * 9000) | map('default', long, true) | list }}", TOO_LONG),
    ],
)  # fmt: skip
def test_a_template_does_not_run_on(text: str, detail: str) -> None:
    started = time.perf_counter()
    found = fault(text)
    assert found.removeprefix("line 2: ") == detail
    assert time.perf_counter() - started < 2


def test_work_cannot_be_earned_back() -> None:
    """Our own counting filters have names that a template can only give to `map`."""
    earn = "{% for a in [[1]] | map(' stepped', -10000000) %}{% endfor %}"
    spend = "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}"
    assert fault(earn + spend) == TOO_MUCH


def test_an_expression_gives_a_value() -> None:
    expression = compile_expression("verdict.realism >= 2 and mood != 'sad'", "keep")
    assert expression.names == {"verdict", "mood"}
    assert expression.evaluate({"verdict": {"realism": 3}, "mood": "calm"}) is True
    assert expression.evaluate({"verdict": {"realism": 1}, "mood": "calm"}) is False
    found = expression.evaluate({"verdict": {"realsm": 3}, "mood": "calm"})
    assert found == CellError(
        "template", "an object has no field 'realism'. Did you mean 'realsm'?"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("tags", ["a", "b"]), ("range(3)", [0, 1, 2]), ("(1, 2)", [1, 2]), ("person.items", [1, 2]),
     ("row", 3), ("tags | length > 1", True), ("{'a': nothing}", {"a": None}),
     ("parameters.n + 1", 5)],
)  # fmt: skip
def test_values_of_expressions(text: str, value: Value) -> None:
    assert compile_expression(text, "when", {"n": 4}).evaluate(ROW) == value


def test_an_expression_hands_out_no_part_of_the_row() -> None:
    tags = compile_expression("tags", "when").evaluate(ROW)
    assert tags == ROW["tags"]
    assert tags is not ROW["tags"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mood ==", "keep:1:8: it ends after 'mood ==', where something is missing"),
        ("mood = 1",
         ("keep:1:6: '=' cannot follow what stands before it; two values are compared with "
          "==")),
        ("mood ? 1", "keep:1:6: the character '?' is no part of an expression"),
        ("mood == 'a", "keep:1:9: the quote ' is opened and not closed"),
        ("(mood", "keep:1:6: it ends after '(mood', where ')' is missing"),
        ("> 3", "keep:1:1: '>' stands where a value is expected"),
        ("{{ mood }}", "keep:1:1: an expression is written without {{ }}: a name, a comparison"),
        ("mood angry", "keep:1:6: 'angry' cannot follow what stands before it"),
        ("mood.__class__",
         ("keep:1:1: '__class__' is refused: a name that begins with an underscore reaches for "
         "Python's internals, and a template reads values only")),
    ],
)  # fmt: skip
def test_expressions_that_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        compile_expression(text, "keep")
    assert str(caught.value) == sentence


def test_a_render_is_cheap() -> None:
    """The bound is generous, for a busy machine; it is about one microsecond on a quiet one."""
    template = compile_template("A {{ mood }} customer writes about a {{ product }}.", "ticket")
    row = {"row": 0, "mood": "calm", "product": "laptop"}
    best = min(_seconds(template.render, row) for _ in range(5))
    assert best < 20e-6


def _seconds(render: Value, row: Row) -> float:
    started = time.perf_counter()
    for _ in range(1000):
        render(row)
    return (time.perf_counter() - started) / 1000

"""One declaration gives the text form, the slash form, the help and the permission."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import pytest

from tests.commands.conftest import run
from wordmill.accounts import Person
from wordmill.commands import COMMANDS, Argument, Context, Group, Outcome, Registry, Suggestion
from wordmill.commands.german import LINES
from wordmill.commands.help import explanation, markdown, overview
from wordmill.errors import Forbidden, InvalidInput, UnknownName

ISSUED = [
    "commands", "input-buffer-size", "set-input-buffer-size", "input-messages", "prompt",
    "set-prompt", "reset-chat", "decoding-mode", "decoding-modes", "set-decoding-mode", "config",
    "config-full", "set-config", "model", "models", "swap-model", "document-title",
    "set-document-title", "make-docx", "set-gdrive-folder", "generate", "runs", "run", "use", "new",
    "stop", "retry", "continue", "undo", "fork", "title", "status", "usage", "whoami", "link",
    "export", "tools", "conversations", "batches", "batch",
    "document-look",
]  # fmt: skip

GROUP = Group("Kitchen")


def fruits(context: Context) -> list[Suggestion]:
    return [Suggestion("apple", "red"), Suggestion("apricot", "orange"), Suggestion("pear")]


@GROUP.command("Cook something.", aliases=("boil",))
def cook(
    context: Context,
    fruit: Annotated[str, Argument("Which.", suggest=fruits)],
    minutes: Annotated[int | None, Argument("How long.", low=1)] = None,
    note: Annotated[str | None, Argument("A remark.", rest=True)] = None,
) -> Outcome:
    return Outcome(f"{fruit} {minutes} {note}")


@GROUP.command("Burn it down.", permission="admin")
def burn(context: Context) -> Outcome:
    return Outcome("Done.")


KITCHEN = Registry(GROUP)
BEN = Person("ben", "ben@example.org", "Ben", "member", None, False, datetime.now(UTC))


@pytest.fixture
def ben() -> Context:
    return Context(BEN, None, "shell")  # type: ignore[arg-type]


def test_all_commands_are_there():
    assert sorted(command.name for command in COMMANDS) == sorted(ISSUED)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/cook pear", "pear None None"),
        ("--cook pear 5", "pear 5 None"),
        ("/COOK pear 5 with care,\nslowly", "pear 5 with care,\nslowly"),
        ("/boil  pear   5 ", "pear 5 None"),
        ("boil", None),
    ],
)
def test_typed_arguments(ben, line, says):
    if says is None:
        with pytest.raises(InvalidInput, match="FRUIT is missing"):
            KITCHEN.run(ben, line)
    else:
        assert KITCHEN.run(ben, line).text == says


def test_arguments_by_name_are_read_as_typed_ones(ben):
    assert KITCHEN.run(ben, "cook", {"fruit": "pear", "minutes": 5}).text == "pear 5 None"
    assert KITCHEN.run(ben, "cook", {"fruit": "pear", "minutes": "5"}).text == "pear 5 None"
    assert KITCHEN.run(ben, "cook", {"fruit": "pear", "minutes": None}).text == "pear None None"
    assert KITCHEN.run(ben, "cook", {"fruit": "a b", "note": "/burn"}).text == "a b None /burn"


@pytest.mark.parametrize(
    ("line", "given", "sentence"),
    [
        ("/cook", None, "FRUIT is missing. Write it as `/cook FRUIT [MINUTES] [NOTE]`."),
        (
            "/cook pear soon",
            None,
            (
                "minutes must be a whole number of 1 or more, not 'soon'. "
                "Write it as `/cook FRUIT [MINUTES] [NOTE]`."
            ),
        ),
        (
            "/cook pear 0",
            None,
            (
                "minutes must be a whole number of 1 or more, not '0'. "
                "Write it as `/cook FRUIT [MINUTES] [NOTE]`."
            ),
        ),
        ("/burn it", None, "'it' is more than it takes. Write it as `/burn`."),
        ("burn", {"it": 1}, "'1' is more than it takes. Write it as `/burn`."),
        (
            "cook",
            {"fruit": ["pear"]},
            "fruit must be a text. Write it as `/cook FRUIT [MINUTES] [NOTE]`.",
        ),
        (
            "cook",
            {"fruit": "pear", "minutes": 2.5},
            (
                "minutes must be a whole number of 1 or more, not '2.5'. "
                "Write it as `/cook FRUIT [MINUTES] [NOTE]`."
            ),
        ),
    ],
)
def test_wrong_arguments_are_refused_with_the_usage(ben, line, given, sentence):
    with pytest.raises(InvalidInput) as refused:
        KITCHEN.run(replace(ben, person=replace(BEN, role="admin")), line, given)
    assert str(refused.value) == sentence


def test_an_unknown_command_is_named_back_with_the_nearest(context):
    with pytest.raises(UnknownName) as refused:
        run(context, "--modles")
    assert str(refused.value) == (
        "There is no command 'modles'. Did you mean 'models' or 'model' or 'tools'? "
        "A message that should begin like this begins with a space."
    )


def test_what_a_command_needs_is_asked_of_the_person(ben):
    with pytest.raises(Forbidden) as refused:
        KITCHEN.run(ben, "/burn")
    assert str(refused.value) == "Only an admin may use `/burn`."
    assert KITCHEN.run(replace(ben, person=replace(BEN, role="admin")), "/burn").text == "Done."
    for person in (replace(BEN, role="pending"), replace(BEN, disabled=True)):
        with pytest.raises(Forbidden, match="waits for an admin"):
            KITCHEN.run(replace(ben, person=person), "/cook pear")


def test_two_commands_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two commands 'cook'"):
        Registry(GROUP, GROUP)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("/", ["/cook", "/burn"]),
        ("/c", ["/cook"]),
        ("--b", ["--burn"]),
        ("-", ["--cook", "--burn"]),
        ("/cook ", ["apple", "apricot", "pear"]),
        ("/cook ap", ["apple", "apricot"]),
        ("--cook AP", ["apple", "apricot"]),
        ("/cook pear 5", []),
        ("/cook pear 5 and ap", []),
        ("/burn ", []),
        ("/nothing ", []),
        ("hello", []),
        ("", []),
        ("/c\nd", []),
    ],
)
def test_completion(ben, text, values):
    assert [suggestion.value for suggestion in KITCHEN.complete(ben, text)] == values


def test_help_of_all_and_of_one():
    assert overview(KITCHEN, "--") == (
        "**Kitchen**\n\n"
        "- `--cook FRUIT [MINUTES] [NOTE]` - Cook something.\n"
        "- `--burn` - Burn it down."
    )
    assert explanation(KITCHEN.find("boil")) == (
        "`/cook FRUIT [MINUTES] [NOTE]` - Cook something.\n\n"
        "- `FRUIT` Which.\n- `[MINUTES]` How long.\n- `[NOTE]` A remark.\n\nAlso `/boil`."
    )
    assert explanation(KITCHEN.find("burn")) == "`/burn` - Burn it down.\n\nFor admins."
    assert "| `burn` | Burn it down. | `admin` |  |" in markdown(KITCHEN)


def test_a_signature_that_no_line_can_give_is_refused():
    group = Group("Wrong")
    with pytest.raises(TypeError, match="fruit has no Argument"):

        @group.command("No.")
        def first(context: Context, fruit: str) -> Outcome: ...

    with pytest.raises(TypeError, match="fruit cannot be read"):

        @group.command("No.")
        def second(
            context: Context,
            note: Annotated[str, Argument("All.", rest=True)],
            fruit: Annotated[str, Argument("More.")],
        ) -> Outcome: ...


def test_an_outcome_goes_through_json_and_back(talk):
    for line in ("/export json", "/status", "/commands"):
        outcome = run(talk, line)
        assert Outcome.of(outcome.as_json()) == outcome


def test_every_command_says_what_it_does_in_a_sentence():
    for command in COMMANDS:
        assert command.help.endswith("."), command
        assert command.help[0].isupper(), command
        for argument in command.arguments:
            assert argument.help.endswith("."), (command, argument)
        # Names and descriptions that chat services take as they stand.
        assert len(command.name) <= 32, command
        assert len(command.help) <= 100, command
        assert all(len(argument.help) <= 100 for argument in command.arguments), command


def test_every_line_of_help_is_there_in_german():
    titles = [group.title for group in COMMANDS.groups]
    wanted = {*titles, "Also", "For admins."}
    for command in COMMANDS:
        wanted |= {command.help, *(argument.help for argument in command.arguments)}
    assert wanted == set(LINES)
    assert "Eine neue Unterhaltung beginnen." in overview(COMMANDS, language="de")
    assert "Begin a new conversation." in overview(COMMANDS, language="fr")
    told = explanation(COMMANDS.find("commands"), language="de-AT")
    assert told.endswith("- `[NAME]` Ein Befehl, ohne Striche.\n\nAuch `/help`.")

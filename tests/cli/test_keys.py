import json
import re

import pytest

from tests.cli.conftest import Type
from tests.cli.test_people import PASSWORD, accounts, quick
from tests.cli.typed import Typed
from wordmill.errors import Unauthenticated

__all__ = ["quick"]


@pytest.fixture
def keys(wordmill: Type, monkeypatch: pytest.MonkeyPatch) -> Type:
    """`wordmill keys ARGUMENTS`, in a house whose admin the environment names."""
    monkeypatch.setenv("WORDMILL_ADMIN_EMAIL", "ann@example.org")
    monkeypatch.setenv("WORDMILL_ADMIN_PASSWORD", PASSWORD)
    return lambda *arguments: wordmill("keys", *arguments)


def test_headless(keys: Type) -> None:
    """The first command of a new house prints a key, alone."""
    done = keys("create", "ci", "--person", "ann@example.org")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"wm-[A-Za-z0-9_-]{43}\n", done.out)
    with accounts() as opened:
        person, key = opened.keys.check(done.out.strip())
    assert (person.email, key.name, key.scopes) == (
        "ann@example.org",
        "ci",
        ("chat", "runs", "read"),
    )


def test_whose_and_for_what(keys: Type) -> None:
    with accounts() as opened:
        opened.people.from_settings()
        opened.people.create(None, "bob@example.org", "Bob", PASSWORD)
    hers = keys("create", "hers", "--scopes", "read, admin", "--expires", "90d").out.strip()
    his = keys("create", "his", "--person", "Bob@example.org", "--scopes", "chat").out.strip()
    listed = json.loads(keys("list", "--json").out)
    assert [(one["name"], one["person"], one["scopes"], one["used"]) for one in listed] == [
        ("his", "bob@example.org", ["chat"], None),
        ("hers", "ann@example.org", ["read", "admin"], None),
    ]
    assert listed[1]["expires"] > listed[1]["created"]
    shown = keys("list", "--person", "bob@example.org").out
    head, row = shown.splitlines()
    assert head.split("  ")[0] == "id"
    assert "his" in row
    assert his[:9] in row
    assert his not in shown
    assert keys("revoke", "his") == Typed(0, f"Revoked his ({his[:9]}...).\n", "")
    assert keys("revoke", listed[1]["id"]) == Typed(0, f"Revoked hers ({hers[:9]}...).\n", "")
    with accounts() as opened:
        for secret in (his, hers):
            with pytest.raises(Unauthenticated):
                opened.keys.check(secret)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "x", "--person", "anne@example.org"),
         "error: There is no person 'anne@example.org'. Did you mean 'ann@example.org'?"),
        (("create", "x", "--scopes", "chats"),
         "error: There is no scope 'chats'. Did you mean 'chat'?"),
        (("create", "x", "--scopes", ","), "error: An API key has at least one scope of"),
        (("create", ""), "error: A name has 1 to 200 characters"),
        (("revoke", "x"), "error: There is no API key 'x'"),
        (("revoke", "two"), "error: 2 API keys are called 'two': name one by its id, "),
    ],
)  # fmt: skip
def test_what_is_wrong(keys: Type, arguments: tuple[str, ...], words: str) -> None:
    for _ in range(2):
        keys("create", "two")
    done = keys(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(words)
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("expires", ["soon", "0", "-1d", "1000000d", "inf"])
def test_times(keys: Type, expires: str) -> None:
    done = keys("create", "x", "--expires", expires)
    assert (done.code, done.out) == (2, "")
    assert f"{expires!r} is no time, as 90d, 12h or 52w." in done.err


def test_before_there_is_anybody(wordmill: Type) -> None:
    assert wordmill("keys", "create", "x") == Typed(
        2,
        "",
        "error: There is no first admin whose key it could be: name somebody with --person, or "
        "add the admin with `wordmill people add EMAIL --role admin`.\n",
    )

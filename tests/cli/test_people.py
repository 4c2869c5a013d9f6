import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import Type
from tests.cli.typed import Typed
from wordmill.accounts import Accounts, passwords
from wordmill.chat.conversations import Conversations
from wordmill.database import open_database
from wordmill.errors import Unauthenticated
from wordmill.runs.registry import Registry
from wordmill.settings import load

PASSWORD = "correct horse 7"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passwords that are hashed quickly."""
    monkeypatch.setattr(passwords, "TIME", 1)
    monkeypatch.setattr(passwords, "MEMORY", 1024)
    passwords._hasher.cache_clear()
    yield
    passwords._hasher.cache_clear()


@pytest.fixture
def people(wordmill: Type, monkeypatch: pytest.MonkeyPatch) -> Type:
    """`wordmill people ARGUMENTS`, with `piped` on its standard input."""

    def typed(*arguments: object, piped: str = "") -> Typed:
        monkeypatch.setattr("sys.stdin", io.StringIO(piped))
        return wordmill("people", *arguments)

    return typed


@contextmanager
def accounts() -> Iterator[Accounts]:
    settings = load()
    with open_database(settings) as database:
        yield Accounts(database, settings)


def can_sign_in(email: str, password: str = PASSWORD) -> bool:
    with accounts() as opened:
        try:
            opened.sessions.sign_in(email, password)
        except Unauthenticated:
            return False
        return True


@pytest.fixture
def ann(people: Type) -> str:
    done = people("add", "Ann@example.org", "--role", "admin", piped=PASSWORD + "\n")
    assert done == Typed(0, "Added ann@example.org, admin.\n", "")
    return "ann@example.org"


def test_from_the_first_to_the_last(people: Type, ann: str) -> None:
    assert can_sign_in(ann)
    bob = "bob@example.org"
    assert people("add", bob, "--name", "Bob", piped=PASSWORD) == Typed(
        0, "Added bob@example.org, member.\n", ""
    )
    assert people("list").out.splitlines()[0].split() == [
        "e-mail",
        "name",
        "role",
        "state",
        "since",
    ]
    assert [line.split()[:4] for line in people("list").out.splitlines()[1:]] == [
        ["ann@example.org", "Ann", "admin", "-"], ["bob@example.org", "Bob", "member", "-"],
    ]  # fmt: skip
    listed = json.loads(people("list", "--json").out)
    first = listed[0]
    assert (first["id"], first["email"], first["role"], first["disabled"]) == (
        "local", ann, "admin", False,
    )  # fmt: skip
    assert people("role", bob, "admin") == Typed(0, "bob@example.org is an admin now.\n", "")
    assert people("role", bob, "member") == Typed(0, "bob@example.org is a member now.\n", "")
    assert people("disable", bob) == Typed(
        0, "bob@example.org is kept out. `wordmill people enable bob@example.org` undoes it.\n", ""
    )
    assert not can_sign_in(bob)
    assert people("enable", bob) == Typed(0, "bob@example.org can sign in again.\n", "")
    assert people("password", bob, piped="brave new owl\n") == Typed(
        0, "Changed. bob@example.org has to sign in again.\n", ""
    )
    assert can_sign_in(bob, "brave new owl")
    assert people("role", bob, "pending").out == "bob@example.org has to be let in now.\n"
    assert people("remove", bob, "--yes") == Typed(0, "Removed bob@example.org.\n", "")
    assert len(json.loads(people("list", "--json").out)) == 1


def test_a_code_instead_of_a_password(people: Type, ann: str) -> None:
    code, said = people("add", "bob@example.org", "--code")[1:]
    assert said == "Added bob@example.org, member.\n"
    with accounts() as opened:
        opened.people.redeem(code, "brave new owl")
    assert can_sign_in("bob@example.org", "brave new owl")
    code = people("password", ann, "--code").out
    with accounts() as opened:
        assert opened.people.redeem(code.strip(), "another new owl").email == ann


def test_the_machine_gives_itself_a_way_in_again(people: Type, ann: str) -> None:
    people("add", "bob@example.org", "--role", "admin", piped=PASSWORD)
    people("disable", ann)
    assert people("enable", ann).code == 0
    assert people("password", ann, piped="brave new owl").code == 0
    assert can_sign_in(ann, "brave new owl")


@pytest.mark.parametrize(
    ("arguments", "piped", "words"),
    [
        (("add", "bob"), PASSWORD, "error: 'bob' is no e-mail address, as ann@example.org."),
        (("add", "ann@example.org"), PASSWORD,
         "error: There is an account for ann@example.org already."),
        (("add", "bob@example.org"), "short", "error: A password has at least 8 characters."),
        (("add", "bob@example.org"), "",
         "error: Password: nothing was piped in, and there is nobody to ask."),
        (("role", "anne@example.org", "member"), "",
         "error: There is no person 'anne@example.org'. Did you mean 'ann@example.org'?"),
        (("role", "ann@example.org", "member"), "",
         "error: ann@example.org is the last admin: without one nobody could let others in."),
        (("disable", "ann@example.org"), "", "error: ann@example.org is the last admin"),
        (("remove", "ann@example.org", "--yes"), "", "error: ann@example.org is the last admin"),
        (("quota", "--requests", "5"), "",
         "error: Say for which period: --per day or --per month."),
        (("quota", "--remove"), "", "error: Say for which period: --per day or --per month."),
    ],
)  # fmt: skip
def test_what_is_wrong(
    people: Type, ann: str, arguments: tuple[str, ...], piped: str, words: str
) -> None:
    done = people(*arguments, piped=piped)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(words)
    assert done.err.count("\n") == 1


def test_the_first_one_is_an_admin(people: Type) -> None:
    assert people("add", "bob@example.org", piped=PASSWORD) == Typed(
        2, "", "error: The first account is an admin's: give it that role.\n"
    )


def test_whoever_is_removed_takes_conversations_and_runs_along(people: Type, ann: str) -> None:
    people("add", "bob@example.org", piped=PASSWORD)
    settings = load()
    with open_database(settings) as database:
        bob = Accounts(database, settings).people.by_email("bob@example.org")
        talks = Conversations(database, settings)
        talks.create(bob, title="His")
        hers = talks.create(Accounts(database, settings).people.by_email(ann), title="Hers")
        run = Registry(database, settings, bob.id).create(
            name="his", recipe="r", digest="d", folder=settings.home / "out", rows=1,
            write=lambda folder: None,
        )  # fmt: skip
        assert people("remove", "bob@example.org", "--yes").code == 0
        assert talks.all(bob).items == ()
        assert Registry(database, settings, bob.id).all() == []
        assert not (settings.home / "runs" / run.id).exists()
        assert [one.id for one in talks.all(Accounts(database, settings).people.local()).items] == [
            hers.id
        ]


def test_quotas(people: Type, ann: str) -> None:
    assert people("quota").out == (
        "per    requests  tokens    money\n"
        "day    no bound  no bound  no bound\n"
        "month  no bound  no bound  no bound\n"
    )
    assert people("quota", "--per", "day", "--requests", "5", "--money", "0.5").out == (
        "per    requests  tokens    money\n"
        "day    5         no bound  0.5\n"
        "month  no bound  no bound  no bound\n"
    )
    with accounts() as opened:
        opened.ledger.charge("local", "web", "m", input_tokens=1200, money=0.25)
    assert people("quota", ann, "--per", "month", "--tokens", "20000").out == (
        "per    requests  tokens           money\n"
        "day    1 of 5    1,200            0.25 of 0.5\n"
        "month  1         1,200 of 20,000  0.25\n"
    )
    assert people("quota", "--per", "day", "--remove").out.count("no bound") == 6
    assert people("quota", "--per", "day", "--remove").err == (
        "error: There is no quota 'everybody per day' that is yours.\n"
    )


def test_nothing_of_the_settings_admin_is_forgotten(
    people: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headless: the first command makes the admin that the environment names."""
    monkeypatch.setenv("WORDMILL_ADMIN_EMAIL", "root@example.org")
    assert people("list").err == (
        "error: admin_email is set and admin_password is not: set WORDMILL_ADMIN_PASSWORD, or "
        "WORDMILL_ADMIN_PASSWORD_FILE to the name of a file that holds it.\n"
    )
    monkeypatch.setenv("WORDMILL_ADMIN_PASSWORD", PASSWORD)
    assert "root@example.org" in people("list").out
    assert can_sign_in("root@example.org")


def test_asking_first(people: Type, ann: str, wordmill: Callable[..., Typed]) -> None:
    people("add", "bob@example.org", piped=PASSWORD)
    assert people("remove", "bob@example.org", piped="n\n").code == 130
    assert "bob@example.org" in people("list").out

from collections.abc import Callable

import pytest

from tests.accounts.refusing import said, tries_until_slowed
from wordmill import database as tables
from wordmill.accounts import Accounts, Person
from wordmill.errors import Conflict, InvalidInput, NotFound, Unauthenticated

MATRIX = ("matrix", "@bob:example.org")


def test_a_code_links_whoever_types_it(
    accounts: Accounts, ann: Person, bob: Person, kept: Callable[[], str]
) -> None:
    links = accounts.identities
    assert links.find(*MATRIX) is None
    code = links.code(bob)
    assert code not in kept()
    assert links.redeem(code.lower(), *MATRIX) == bob
    assert links.find(*MATRIX) == bob
    assert links.find("discord", MATRIX[1]) is None
    assert links.find("matrix", "@bob:evil.example") is None  # the same name elsewhere
    assert links.find("matrix", "\0") is None
    with said(
        Unauthenticated, "This code is not good (any more). The page Settings makes another."
    ):
        links.redeem(code, "discord", "7")
    with said(Conflict, "@bob:example.org at matrix is linked to an account already."):
        links.redeem(links.code(ann), *MATRIX)
    assert [(one.provider, one.subject) for one in links.all(bob)] == [MATRIX]
    with pytest.raises(NotFound):
        links.unlink(ann, *MATRIX)
    links.unlink(bob, *MATRIX)
    assert links.find(*MATRIX) is None


def test_a_code_lasts_ten_minutes_and_only_the_newest(
    accounts: Accounts, bob: Person, later: Callable[..., None]
) -> None:
    old, code = accounts.identities.code(bob), accounts.identities.code(bob)
    with pytest.raises(Unauthenticated):
        accounts.identities.redeem(old, *MATRIX)
    later(tables.codes, minutes=10)
    with pytest.raises(Unauthenticated):
        accounts.identities.redeem(code, *MATRIX)


def test_guessing_is_slowed_down(accounts: Accounts, bob: Person) -> None:
    accounts.identities.code(bob)
    tried = tries_until_slowed(
        20, Unauthenticated, lambda: accounts.identities.redeem("AAAAA", *MATRIX)
    )
    assert tried == 6


def test_who_is_kept_out_is_nobody(accounts: Accounts, ann: Person, bob: Person) -> None:
    accounts.identities.redeem(accounts.identities.code(bob), *MATRIX)
    accounts.people.change(ann, bob.id, disabled=True)
    assert accounts.identities.find(*MATRIX) is None
    accounts.people.change(ann, bob.id, disabled=False, role="pending")
    assert accounts.identities.find(*MATRIX) is None


@pytest.mark.parametrize("subject", ["", "x" * 301, "a\0", "\ud800", "a\nb"])
def test_what_cannot_be_linked(accounts: Accounts, bob: Person, subject: str) -> None:
    with pytest.raises(InvalidInput):
        accounts.identities.redeem(accounts.identities.code(bob), "matrix", subject)
    with pytest.raises(NotFound):
        accounts.identities.unlink(bob, "matrix", subject)

from datetime import timedelta

import pytest

from tests.accounts.refusing import said
from wordmill.accounts import Accounts, Person
from wordmill.database import now
from wordmill.errors import Forbidden


def test_the_newest_first_and_only_ones_own(accounts: Accounts, ann: Person, bob: Person) -> None:
    for at in range(5):
        accounts.audit.note(bob.id, "run exported", f"run-{at}", "10.0.0.1", rows=at)
    found = accounts.audit.entries(bob, limit=3)
    assert [entry.subject for entry in found] == ["run-4", "run-3", "run-2"]
    assert found[0].detail == {"rows": 4}
    assert {entry.person for entry in accounts.audit.entries(bob)} == {bob.id}
    with said(Forbidden, "Only an admin may see what is noted of others."):
        accounts.audit.entries(bob, person=ann.id)
    assert len(accounts.audit.entries(ann, person=bob.id)) == 5
    assert len(accounts.audit.entries(ann, action="person added")) == 2
    assert accounts.audit.entries(ann, before=now() - timedelta(hours=1)) == []
    assert accounts.audit.entries(ann, person="\0") == []
    assert accounts.audit.entries(ann, action="\ud800") == []


def test_no_secret_and_nothing_that_writes_over_a_terminal(accounts: Accounts, ann: Person) -> None:
    secret = accounts.keys.create(ann, "ci")[1]
    accounts.audit.note(
        ann.id, "tried", f"with {secret}", "10.0.0.1\x1b[2J\r\n",
        header="Authorization: Bearer abcdefgh", names=["sk-abcdefghijkl", 7], none=None,
        moment=now(), long="x" * 5000,
    )  # fmt: skip
    (entry, *_) = accounts.audit.entries(ann)
    assert entry.subject == "with ********"
    assert entry.address == "10.0.0.1[2J"
    assert entry.detail["header"] == "Authorization: Bearer ********"
    assert entry.detail["names"] == ["********", 7]
    assert len(str(entry.detail["long"])) == 1000


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_limits(accounts: Accounts, ann: Person, limit: int) -> None:
    assert len(accounts.audit.entries(ann, limit=limit)) == 1

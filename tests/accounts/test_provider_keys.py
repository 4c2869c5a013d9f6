from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from tests.accounts.refusing import said
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill import database as tables
from wordmill.accounts import Accounts, Person, StoredKey, catalog_of
from wordmill.database import Database
from wordmill.errors import (
    ConfigError,
    Forbidden,
    InvalidInput,
    KeyMissing,
    NotFound,
    UnknownName,
)
from wordmill.models import Catalog, Model, checked
from wordmill.providers.base import Provider
from wordmill.secrets import KEY_FILE
from wordmill.settings import Settings

SECRET = "sk-hunter2hunter2"


@pytest.fixture
def gpt(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that names a variable, which is not set."""
    monkeypatch.delenv("A_KEY", raising=False)
    model = checked(
        {"name": "gpt", "model": "m", "base_url": "https://api.example/v1", "key_env": "A_KEY"}
    )
    return Catalog(database, settings).add(model)


@pytest.fixture
def provider(database: Database, settings: Settings, gpt: Model) -> Callable[[Person], Provider]:
    """The model as a person's requests reach it."""
    return lambda person: catalog_of(database, settings, person.id).provider("gpt")


def test_a_key_is_kept_sealed(
    accounts: Accounts, bob: Person, gpt: Model, kept: Callable[[], str], settings: Settings
) -> None:
    keys = accounts.provider_keys
    assert keys.find(bob.id, "gpt") is None
    keys.set(bob, "gpt", f" {SECRET}\n")
    assert keys.find(bob.id, "gpt") == keys.find(bob.id, gpt) == SECRET
    assert "hunter2" not in kept()
    assert (settings.home / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (stored,) = keys.models(bob)
    assert (stored.model, stored.everyone) == ("gpt", False)
    keys.set(bob, "gpt", "another")
    assert keys.find(bob.id, "gpt") == "another"
    keys.remove(bob, "gpt")
    assert keys.find(bob.id, "gpt") is None
    with pytest.raises(NotFound):
        keys.remove(bob, "gpt")


def test_own_then_the_variable_then_everybodys(
    accounts: Accounts, ann: Person, bob: Person, provider: Callable[[Person], Provider],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(KeyMissing) as caught:
        provider(bob).key()
    assert str(caught.value) == (
        "No API key for the model 'gpt': the variable A_KEY is not set. Set it, or store the key "
        "with `wordmill models key gpt`."
    )
    accounts.provider_keys.set(ann, "gpt", "k-everybody", everyone=True)
    assert provider(bob).key() == "k-everybody"
    assert provider(bob).lane()["key"] == "k-everybody"
    monkeypatch.setenv("A_KEY", "k-variable")
    assert provider(bob).key() == "k-variable"
    accounts.provider_keys.set(bob, "gpt", "k-bob")
    assert provider(bob).key() == "k-bob"
    assert provider(ann).key() == "k-variable"
    assert set(provider(bob).secrets()) == {"k-variable", "k-bob", "k-everybody"}
    assert {stored.everyone for stored in accounts.provider_keys.models(bob)} == {True, False}
    assert accounts.provider_keys.find(bob.id, "gpt") == "k-bob"
    assert accounts.provider_keys.find(ann.id, "gpt") == "k-everybody"
    assert isinstance(accounts.provider_keys.models(ann)[0], StoredKey)


def test_a_model_that_names_no_variable(
    accounts: Accounts, bob: Person, database: Database, settings: Settings, gpt: Model
) -> None:
    Catalog(database, settings).add(replace(gpt, key_env=None), replacing=True)
    catalog = catalog_of(database, settings, bob.id)
    assert catalog.provider("gpt").key() is None
    accounts.provider_keys.set(bob, "gpt", "k-bob")
    assert catalog.provider("gpt").key() == "k-bob"


def test_a_key_goes_nowhere_else(
    accounts: Accounts, bob: Person, database: Database, settings: Settings, gpt: Model
) -> None:
    """A model that gets another address, in the catalog or in a project's file, has no key."""
    accounts.provider_keys.set(bob, "gpt", SECRET)
    catalog = catalog_of(database, settings, bob.id)
    catalog.add(replace(gpt, base_url="https://evil.example/v1"), replacing=True)
    assert accounts.provider_keys.find(bob.id, "gpt") is None
    with pytest.raises(KeyMissing):
        catalog.provider("gpt").lane()
    catalog.add(replace(gpt, rpm=5), replacing=True)
    assert catalog.provider("gpt").key() == SECRET
    project = replace(
        settings, models={"gpt": {"model": "m", "base_url": "https://evil.example/v1"}}
    )
    assert catalog_of(database, project, bob.id).provider("gpt").key() is None


def test_who_may(accounts: Accounts, ann: Person, bob: Person, gpt: Model) -> None:
    keys = accounts.provider_keys
    with said(Forbidden, "Only an admin may store a key for everybody."):
        keys.set(bob, "gpt", SECRET, everyone=True)
    keys.set(ann, "gpt", SECRET, everyone=True)
    with said(Forbidden, "Only an admin may remove everybody's key."):
        keys.remove(bob, "gpt", everyone=True)
    with pytest.raises(NotFound):  # everybody's is not his
        keys.remove(bob, "gpt")
    for missing in ("gtp", "\0", "\ud800"):
        with pytest.raises(UnknownName):
            keys.set(bob, missing, SECRET)
        with pytest.raises(NotFound):
            keys.remove(bob, missing)
    with said(InvalidInput, "wants no key"):
        keys.set(bob, "rehearsal", SECRET)


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "schlüssel", "k" * 10_001, "\0", "\ud800"])
def test_what_is_no_key(accounts: Accounts, bob: Person, gpt: Model, key: str) -> None:
    with said(InvalidInput, "This is no API key") as caught:
        accounts.provider_keys.set(bob, "gpt", key)
    assert key.strip() == "" or key not in str(caught.value)


def test_a_key_that_was_moved_or_lost(
    accounts: Accounts, ann: Person, bob: Person, database: Database, settings: Settings, gpt: Model
) -> None:
    """Nobody gets another's key by writing it into their own row."""
    table = tables.provider_keys
    accounts.provider_keys.set(ann, "gpt", SECRET)
    accounts.provider_keys.set(bob, "gpt", "k-bob")
    with database.begin() as connection:
        sealed = connection.execute(select(table.c.sealed).where(table.c.owner == ann.id)).scalar()
        connection.execute(update(table).where(table.c.owner == bob.id).values(sealed=sealed))
    with said(ConfigError, "is damaged or was moved there. Enter it again.") as caught:
        accounts.provider_keys.find(bob.id, "gpt")
    assert f"provider_keys:{bob.id}:gpt" in str(caught.value)
    (settings.home / KEY_FILE).unlink()
    with said(ConfigError, "was sealed with another key than"):
        accounts.provider_keys.find(ann.id, "gpt")
    accounts.provider_keys.set(ann, "gpt", "k-again")  # all that it takes
    assert accounts.provider_keys.find(ann.id, "gpt") == "k-again"


def test_the_server_gets_it_and_nobody_sees_it(
    accounts: Accounts, bob: Person, database: Database, settings: Settings, gpt: Model
) -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        if len(asked) > 1:
            return Told(401, {"error": {"message": f"Not this one: {SECRET}"}})
        return completion("Yes.")

    with serving(respond) as server:
        catalog = catalog_of(database, settings, bob.id)
        catalog.add(replace(gpt, base_url=server.url + "/v1"), replacing=True)
        accounts.provider_keys.set(bob, "gpt", SECRET)
        good, bad = catalog.provider("gpt").test(), catalog.provider("gpt").test()
    assert good.passed
    assert asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert bad.sentence == (
        f"{server.url}/v1/chat/completions does not accept the stored key (401: Not this one: "
        "********)."
    )


def test_what_is_noted(accounts: Accounts, ann: Person, gpt: Model) -> None:
    accounts.provider_keys.set(ann, "gpt", SECRET, everyone=True)
    accounts.provider_keys.remove(ann, "gpt", everyone=True)
    noted = [(entry.action, entry.subject, entry.detail) for entry in accounts.audit.entries(ann)]
    assert noted[:2] == [
        ("provider key removed", "gpt", {"everyone": True}),
        ("provider key stored", "gpt", {"everyone": True}),
    ]

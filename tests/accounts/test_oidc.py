"""Against a provider of our own, over a real socket."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.accounts.conftest import PASSWORD
from tests.accounts.refusing import said
from tests.servers import openid
from wordmill import database as tables
from wordmill.accounts import Accounts, Person
from wordmill.accounts.oidc import OidcFinish
from wordmill.database import Database
from wordmill.errors import ConfigError, Unauthenticated
from wordmill.settings import load

BACK = "https://mill.example.org/login/oidc/back"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[openid.OpenId]:
    with openid.serving() as server:
        monkeypatch.setenv("WORDMILL_OIDC_ISSUER", server.url)
        monkeypatch.setenv("WORDMILL_OIDC_CLIENT_ID", "the mill")
        monkeypatch.setenv("WORDMILL_OIDC_CLIENT_SECRET", server.secret)
        monkeypatch.setenv("WORDMILL_OIDC_NAME", "Acme")
        yield server


@pytest.fixture
def house(
    provider: openid.OpenId, database: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Accounts]:
    """The accounts, with other settings."""

    def make(**settings: str) -> Accounts:
        for name, value in settings.items():
            monkeypatch.setenv(f"WORDMILL_OIDC_{name.upper()}", value)
        return Accounts(database, load())

    return make


def browse(url: str) -> dict[str, str]:
    """Follow the provider's redirect; the parameters with which the browser comes back."""
    answer = httpx.get(url)
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == BACK
    return {name: values[0] for name, values in parse_qs(back.query).items()}


def sign_in(accounts: Accounts, person: Person | None = None, **changed: str) -> OidcFinish:
    start = accounts.oidc.begin(BACK, back="/chat?c=7", person=person)
    query = {**browse(start.url), **changed}
    return accounts.oidc.finish(query, start.state, address="10.0.0.1")


def test_without_a_provider(accounts: Accounts) -> None:
    assert not accounts.oidc.configured
    with said(ConfigError, "There is no OpenID provider: set WORDMILL_OIDC_ISSUER"):
        accounts.oidc.begin(BACK)


def test_somebody_new(
    house: Callable[..., Accounts], provider: openid.OpenId, kept: Callable[[], str]
) -> None:
    accounts = house(sign_up="open")
    provider.claims |= {"email": "New@Example.org", "name": "New  One"}
    assert (accounts.oidc.configured, accounts.oidc.name) == (True, "Acme")
    start = accounts.oidc.begin(BACK, back="/chat")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(start.url).query).items()}
    assert {name: asked[name] for name in ("response_type", "client_id", "scope", "tenant")} == {
        "response_type": "code", "client_id": "the mill", "scope": "openid email profile",
        "tenant": "7",
    }  # fmt: skip
    assert start.state not in kept()
    assert start.state.replace("-", "") not in kept()
    person, back = accounts.oidc.finish(browse(start.url), start.state)
    assert (person.email, person.name, person.role) == ("new@example.org", "New One", "member")
    assert back == "/chat"
    token = accounts.sessions.open(person, "10.0.0.1", "Firefox", how="oidc")
    assert accounts.sessions.check(token) == person
    assert provider.passports[0] is not None  # the secret goes in a header
    assert sign_in(accounts).person == person  # known by issuer and subject now
    provider.claims |= {"email": "married@example.org"}
    assert sign_in(accounts).person == person
    provider.claims |= {"sub": "u-2"}
    assert sign_in(accounts).person != person
    (identity,) = accounts.identities.all(person)
    assert (identity.provider, identity.subject) == (provider.url, "u-1")


@pytest.mark.parametrize("how", ["closed", "pending"])
def test_who_is_let_in(
    house: Callable[..., Accounts], provider: openid.OpenId, ann: Person, how: str
) -> None:
    accounts = house(sign_up=how)
    provider.claims |= {"email": "new@example.org"}
    if how == "closed":
        with said(
            Unauthenticated,
            "Signing in with Acme did not work: it is linked to no account here. "
            "Ask an admin for one",
        ):
            sign_in(accounts)
        assert accounts.people.all(ann) == [ann]
        return
    person = sign_in(accounts).person
    with said(Unauthenticated, "An admin has to let you in first."):
        accounts.sessions.open(person)
    accounts.people.change(ann, person.id, role="member")
    assert accounts.sessions.open(sign_in(accounts).person)
    accounts.people.change(ann, person.id, disabled=True)
    with said(Unauthenticated, "This account is disabled."):
        accounts.sessions.open(sign_in(accounts).person)


def test_nobody_becomes_the_first_admin_so(
    provider: openid.OpenId, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_OIDC_SIGN_UP", "open")
    accounts = Accounts(database, load())
    with pytest.raises(Unauthenticated):
        sign_in(accounts)
    assert accounts.people.none()


def test_an_address_alone_opens_nobodys_account(
    house: Callable[..., Accounts], ann: Person
) -> None:
    accounts = house(sign_up="open")
    with said(Unauthenticated, "Sign in with your password and link it on the page Settings"):
        sign_in(accounts)
    assert accounts.people.all(ann) == [ann]
    assert accounts.identities.all(ann) == []


def test_whoever_is_signed_in_links_it(
    house: Callable[..., Accounts], provider: openid.OpenId, ann: Person, bob: Person
) -> None:
    accounts = house()
    provider.claims |= {"email": "elsewhere@example.org", "email_verified": False}
    token = accounts.sessions.sign_in("ann@example.org", PASSWORD)
    assert sign_in(accounts, ann) == (ann, "/chat?c=7")
    assert sign_in(accounts, ann).person == ann  # harmless when repeated
    assert sign_in(accounts).person == ann
    assert accounts.sessions.check(token) == ann  # what was there goes on
    assert accounts.sessions.sign_in("ann@example.org", PASSWORD)
    with said(Unauthenticated, "This Acme account opens another account here."):
        sign_in(accounts, bob)
    accounts.identities.unlink(ann, provider.url, "u-1")
    assert sign_in(accounts, bob).person == bob


def test_a_verified_address_opens_an_account_where_that_is_allowed(
    house: Callable[..., Accounts], provider: openid.OpenId, ann: Person
) -> None:
    """All that opened it before ends: somebody else may have made it, waiting for its owner."""
    accounts = house(link="true", sign_up="open")
    for not_verified in (False, None, "false", 0, "yes"):
        provider.wrong = {"email_verified": not_verified}
        with pytest.raises(Unauthenticated):
            sign_in(accounts)
    provider.wrong = {}
    token = accounts.sessions.sign_in("ann@example.org", PASSWORD)
    _, secret = accounts.keys.create(ann, "ci")
    accounts.identities.redeem(accounts.identities.code(ann), "matrix", "@eve:example.org")
    assert sign_in(accounts).person == ann
    calls: list[Callable[[], Any]] = [
        lambda: accounts.sessions.check(token),
        lambda: accounts.keys.check(secret),
        lambda: accounts.sessions.sign_in("ann@example.org", PASSWORD),
    ]
    for call in calls:
        with pytest.raises(Unauthenticated):
            call()
    assert accounts.identities.find("matrix", "@eve:example.org") is None
    assert [one.provider for one in accounts.identities.all(ann)] == [provider.url]
    assert sign_in(accounts).person == ann


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"}, {"nonce": None}, {"iss": "https://evil.example"}, {"iss": None},
        {"aud": "another"}, {"aud": None}, {"aud": ["the mill", "another"]},
        {"aud": ["the mill", "another"], "azp": "another"}, {"azp": "another"},
        {"exp": int(time.time()) - 120}, {"exp": None}, {"exp": "soon"}, {"iat": None},
        {"nbf": int(time.time()) + 3600}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "a\0"},
        {"sub": "x" * 256}, {"at_hash": "AAAA"},
    ],
)  # fmt: skip
def test_a_token_that_is_not_good(
    house: Callable[..., Accounts], provider: openid.OpenId, ann: Person, wrong: dict[str, Any]
) -> None:
    accounts = house(sign_up="open", link="true")
    provider.wrong = wrong
    with said(Unauthenticated, "Signing in with Acme did not work: "):
        sign_in(accounts)
    assert accounts.identities.all(ann) == []
    provider.wrong = {}
    assert sign_in(accounts).person == ann


@pytest.mark.parametrize("algorithm", ["none", "HS256", "other key"])
def test_a_signature_that_is_not_good(
    house: Callable[..., Accounts], provider: openid.OpenId, algorithm: str
) -> None:
    accounts = house(sign_up="open", link="true")
    sign_in(accounts)
    if algorithm == "other key":
        published, forger = provider.key, openid.OpenId()
        forger.new_key("k1")
        provider.sign = forger.sign  # type: ignore[method-assign]
        assert provider.key is published
    else:
        provider.algorithm = algorithm
    with said(Unauthenticated, "its id_token is not good"):
        sign_in(accounts)


def test_the_providers_keys_may_change(
    house: Callable[..., Accounts], provider: openid.OpenId, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = house(link="true")
    clock = [time.monotonic()]
    monkeypatch.setattr("wordmill.accounts.oidc.time.monotonic", lambda: clock[0])
    sign_in(accounts)
    for _ in range(3):
        sign_in(accounts)
    assert provider.asked.count("/keys") == 1
    assert provider.asked.count("/.well-known/openid-configuration") == 1
    provider.new_key("k2")
    with pytest.raises(Unauthenticated):  # asked for again at most once a minute
        sign_in(accounts)
    clock[0] += 61
    sign_in(accounts)
    assert provider.asked.count("/keys") == 2


def test_the_way_back_is_the_browsers_own(
    house: Callable[..., Accounts], provider: openid.OpenId, later: Callable[..., None]
) -> None:
    accounts = house(link="true")
    start, other = accounts.oidc.begin(BACK), accounts.oidc.begin(BACK)
    query = browse(start.url)
    for state in ("", "x", other.state, "\ud800", "\0", start.state.lower()):
        with said(Unauthenticated, "began in another browser"):
            accounts.oidc.finish(query, state)
    with said(Unauthenticated, "began in another browser"):
        accounts.oidc.finish({**query, "state": "ä"}, start.state)
    assert accounts.oidc.finish(query, start.state)
    with said(Unauthenticated, "took too long, or was used already"):
        accounts.oidc.finish(query, start.state)
    query = browse(other.url)
    later(tables.codes, minutes=10)
    with said(Unauthenticated, "took too long, or was used already"):
        accounts.oidc.finish(query, other.state)


def test_a_code_of_another_sign_in_does_not_fit(
    house: Callable[..., Accounts], provider: openid.OpenId
) -> None:
    """A code that was stolen is of no use in another browser: it lacks the verifier."""
    accounts = house(link="true")
    stolen = browse(accounts.oidc.begin(BACK).url)["code"]
    with said(Unauthenticated, "answered with 400: wrong verifier."):
        sign_in(accounts, code=stolen)


def test_what_the_provider_refuses(house: Callable[..., Accounts], provider: openid.OpenId) -> None:
    accounts = house(link="true")
    for changed, words in (
        ({"error": "access_denied"}, "did not work: access_denied"),
        ({"error": "x", "error_description": "You may not"}, "did not work: You may not"),
        ({"iss": "https://evil.example"}, "the answer came from another provider"),
        ({"code": "made up"}, "/token answered with 400: invalid_grant."),
        ({"code": ""}, "did not work: "),
        ({"code": "\ud800\0"}, "did not work: "),
        ({"error": "a\r\n\x1b[1m"}, "did not work: a[1m"),
    ):
        with said(Unauthenticated, words):
            sign_in(accounts, **changed)
    provider.secret = "another"
    with said(Unauthenticated, "/token answered with 401: invalid_client.") as caught:
        sign_in(accounts)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("methods", "header"),
    [(None, True), (["client_secret_post"], False), (["client_secret_basic", "x"], True)],
)
def test_how_the_secret_is_sent(
    house: Callable[..., Accounts], provider: openid.OpenId, methods: list[str] | None, header: bool
) -> None:
    if methods is not None:
        provider.described["token_endpoint_auth_methods_supported"] = methods
    provider.secret = "s3 cret+%:ä"
    accounts = house(link="true", client_secret=provider.secret)
    assert sign_in(accounts).person.email == "ann@example.org"
    assert (provider.passports[0] is not None) is header


def test_an_address_that_only_userinfo_tells(
    house: Callable[..., Accounts], provider: openid.OpenId
) -> None:
    accounts = house(sign_up="open")
    provider.claims = {"sub": "u-9"}
    provider.userinfo = {"sub": "u-9", "email": "nine@example.org"}
    assert sign_in(accounts).person.email == "nine@example.org"
    provider.claims = {"sub": "u-10"}
    with said(Unauthenticated, "it told of somebody else"):
        sign_in(accounts)
    provider.userinfo = {"sub": "u-10"}
    with said(Unauthenticated, "it gives no e-mail address of yours"):
        sign_in(accounts)


def test_a_provider_that_is_not_there(
    house: Callable[..., Accounts], provider: openid.OpenId
) -> None:
    accounts = house(link="true")
    provider.status = 503
    with said(ConfigError, "openid-configuration answered with 503: asleep."):
        accounts.oidc.begin(BACK)
    with said(ConfigError, "does not answer (refused: "):
        house(issuer="http://127.0.0.1:9").oidc.begin(BACK)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"issuer": "https://evil.example"}, "describes 'https://evil.example': give oidc_issuer"),
        ({"authorization_endpoint": "http://evil.example/a"}, "gives no usable authorization_end"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "gives no usable authorization_end"),
        ({"authorization_endpoint": None}, "gives no usable authorization_endpoint"),
    ],
)
def test_a_description_that_is_not_good(
    house: Callable[..., Accounts], provider: openid.OpenId, described: dict[str, Any], words: str
) -> None:
    provider.described = described
    with said(ConfigError, words):
        house().oidc.begin(BACK)


def test_only_https_elsewhere(house: Callable[..., Accounts]) -> None:
    with said(ConfigError, "is no https address: an OpenID provider has to have one."):
        house(issuer="http://login.example.org").oidc.begin(BACK)

"""The pages before the workbench, as a browser meets them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.servers import openid
from wordmill.accounts import LOCAL_PERSON
from wordmill.channels.house import House, open_house
from wordmill.channels.web.entry import make_entry
from wordmill.channels.web.gate import COOKIE
from wordmill.errors import Unauthenticated
from wordmill.settings import load

PASSWORD = "correct horse battery staple"
ANN = {"email": "ann@example.org", "password": PASSWORD}
OURS = {"origin": "http://testserver"}


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[House, TestClient]]]:
    with ExitStack() as stack:

        def made(*, admin: bool = True, **settings: str) -> tuple[House, TestClient]:
            for name, value in settings.items():
                monkeypatch.setenv(f"WORDMILL_{name.upper()}", value)
            house = stack.enter_context(open_house(load()))
            if admin:
                create = house.accounts.people.create
                create(LOCAL_PERSON, ANN["email"], "Ann", PASSWORD, "admin")
            app = FastAPI()
            app.include_router(make_entry(house))
            return house, TestClient(app, follow_redirects=False, headers=OURS)

        yield made


def test_the_first_one_becomes_the_admin(door: Callable[..., Any]) -> None:
    house, browser = door(admin=False)
    code = house.accounts.first_admin_code()
    assert browser.get("/login").headers["location"] == "/first"
    form = {"code": "WRONG", "name": "Ann", **ANN}
    assert browser.post("/first", data=form).status_code in (400, 401)
    done = browser.post("/first", data={**form, "code": code})
    assert (done.status_code, done.headers["location"]) == (303, "/")
    cookie = done.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    person = house.accounts.sessions.check(browser.cookies[COOKIE])
    assert (person.id, person.role) == ("local", "admin")
    assert browser.get(f"/first?code={code}").headers["location"] == "/login"
    assert browser.post("/first", data={**form, "code": code}).status_code in (400, 401, 409)


def test_in_and_out_again(door: Callable[..., Any]) -> None:
    house, browser = door()
    refused = browser.post("/login", data={**ANN, "password": "another one"})
    assert refused.status_code == 401
    assert "alert" in refused.text
    stranger = browser.post("/login", data={"email": "no@example.org", "password": "x" * 20})
    assert stranger.status_code == 401
    done = browser.post("/login", data={**ANN, "next": "/explore"})
    assert (done.status_code, done.headers["location"]) == (303, "/explore")
    token = browser.cookies[COOKIE]
    browser.post("/logout")
    assert COOKIE not in browser.cookies
    with pytest.raises(Unauthenticated):
        house.accounts.sessions.check(token)


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x", "/a\nb"]
)
def test_nobody_is_sent_elsewhere(door: Callable[..., Any], back: str) -> None:
    _, browser = door()
    assert browser.post("/login", data={**ANN, "next": back}).headers["location"] == "/"


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_form_of_another_site_is_refused(door: Callable[..., Any], origin: str) -> None:
    _, browser = door()
    with pytest.raises(Unauthenticated, match="another site"):
        browser.post("/login", data=ANN, headers={"origin": origin})


def test_what_somebody_types_is_shown_as_text(door: Callable[..., Any]) -> None:
    _, browser = door()
    form = {"email": '"><script>alert(1)</script>', "password": "wrong"}
    page = browser.post("/login", data=form).text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(("how", "role"), [("open", "member"), ("pending", "pending")])
def test_signing_up_as_the_setting_says(door: Callable[..., Any], how: str, role: str) -> None:
    house, browser = door(sign_up=how)
    form = {"email": "new@example.org", "name": "New", "password": PASSWORD}
    done = browser.post("/sign-up", data=form)
    assert house.accounts.people.by_email("new@example.org").role == role
    assert (done.status_code, COOKIE in browser.cookies) == (
        (303, True) if how == "open" else (200, False)
    )


def test_signing_up_is_closed_unless_it_is_opened(door: Callable[..., Any]) -> None:
    house, browser = door()
    form = {"email": "new@example.org", "name": "New", "password": PASSWORD}
    assert browser.post("/sign-up", data=form).headers["location"] == "/login"
    assert len(house.accounts.people.all(house.accounts.people.local())) == 1


def test_a_shared_branch_is_read_and_taken_back(door: Callable[..., Any]) -> None:
    house, browser = door()
    ann = house.accounts.people.local()
    kept = house.conversations.create(ann, title="Mills", model="rehearsal")
    house.conversations.add(ann, kept.id, "user", "<b>Which?</b>", door="web")
    share, token = house.conversations.share(ann, kept.id)
    page = browser.get(f"/shared/{token}")
    assert page.status_code == 200
    assert "&lt;b&gt;Which?&lt;/b&gt;" in page.text
    assert "ann@example.org" not in page.text
    house.conversations.revoke(ann, share.id)
    assert browser.get(f"/shared/{token}").status_code == 404
    assert browser.get("/shared/" + "x" * 43).status_code == 404


def test_signing_in_at_an_openid_provider(door: Callable[..., Any]) -> None:
    with openid.serving() as provider:
        house, browser = door(
            oidc_issuer=provider.url, oidc_client_id="the mill",
            oidc_client_secret=provider.secret, oidc_name="Acme", oidc_sign_up="open",
        )  # fmt: skip
        provider.claims |= {"email": "new@example.org", "name": "New"}
        assert "Sign in with Acme" in browser.get("/login").text
        begun = browser.get("/login/oidc?next=/explore")
        there = httpx.get(begun.headers["location"])
        back = there.headers["location"]
        done = browser.get(back.removeprefix("http://testserver"))
        assert (done.status_code, done.headers["location"]) == (303, "/explore")
        assert house.accounts.sessions.check(browser.cookies[COOKIE]).email == "new@example.org"
        again = browser.get(back.removeprefix("http://testserver"))
        assert again.status_code == 401


def test_a_password_is_chosen_with_a_code(door: Callable[..., Any]) -> None:
    house, browser = door()
    ann = house.accounts.people.local()
    code = house.accounts.people.reset(ann, ann.id)
    assert f'value="{code}"' in browser.get(f"/password?code={code}").text
    form = {"code": code, "password": "another horse battery staple"}
    assert browser.post("/password", data={**form, "code": "WRONG"}).status_code == 401
    done = browser.post("/password", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert house.accounts.sessions.check(browser.cookies[COOKIE]).id == ann.id
    assert browser.post("/password", data=form).status_code == 401


def test_the_files_of_a_shared_branch_run_nothing(door: Callable[..., Any]) -> None:
    house, browser = door()
    ann = house.accounts.people.local()
    kept = house.conversations.create(ann, title="Mills")
    data = b"<script>alert(1)</script>"
    add = house.conversations.attachments.add
    file = add(ann, "a page.html", data, "text/html", conversation=kept.id)
    other = add(ann, "other.txt", b"a secret", conversation=kept.id)
    house.conversations.add(ann, kept.id, "user", "See.", door="web", attachments=[file.id])
    _, token = house.conversations.share(ann, kept.id)
    assert f'href="/shared/{token}/{file.id}"' in browser.get(f"/shared/{token}").text
    got = browser.get(f"/shared/{token}/{file.id}")
    assert got.content == data
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in got.headers["content-security-policy"]
    assert browser.get(f"/shared/{token}/{other.id}").status_code == 404


def test_german_for_those_who_read_it(door: Callable[..., Any]) -> None:
    _, browser = door()
    assert "Anmelden" in browser.get("/login", headers={"accept-language": "de-CH"}).text

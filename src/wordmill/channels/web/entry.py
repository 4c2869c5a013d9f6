"""The pages before the workbench: sign in, sign up, the first admin, signing out, a shared branch.

Plain HTML from a template, because only an HTTP response can set a cookie; every value in it is
escaped. A form from another site is refused by its origin, and the cookie does not travel with it.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt

from wordmill.channels.house import House
from wordmill.channels.web import i18n
from wordmill.channels.web.gate import COOKIE
from wordmill.channels.web.settling import settle_beside
from wordmill.errors import NotFound, TooMany, Unauthenticated, WordmillError

STATE: Final = "wordmill-oidc"
"""The cookie of a sign-in at another provider, while it lasts."""
_SHOWN: Final = 500
"""Messages of a shared branch that its page shows."""


class Field(NamedTuple):
    """An input of a form."""

    name: str
    label: str
    type: str = "text"
    autocomplete: str = "off"
    value: str = ""


class Link(NamedTuple):
    """A way to somewhere else."""

    href: str
    label: str


def make_entry(house: House) -> APIRouter:
    """The routes, kept out of the OpenAPI: they are pages."""
    router = APIRouter(include_in_schema=False)
    _sign_in_routes(router, house)
    _new_people_routes(router, house)
    _shared_routes(router, house)
    return router


def _sign_in_routes(router: APIRouter, house: House) -> None:
    accounts = house.accounts

    @router.get("/login")
    def login(request: Request, next: str = "/") -> Response:  # noqa: A002  # its name in the URL
        if accounts.people.none():
            return RedirectResponse("/first", 303)
        return _login(request, house, next)

    @router.post("/login")
    def sign_in(
        request: Request,
        email: str = Form(),
        password: str = Form(),
        next: str = Form("/"),  # noqa: A002
    ) -> Response:
        _refuse_foreign(request)
        try:
            token = accounts.sessions.sign_in(email, password, *_caller(request))
        except (Unauthenticated, TooMany) as error:
            return _login(request, house, next, email, error)
        return _signed_in(request, house, token, next)

    @router.get("/login/oidc")
    def elsewhere(request: Request, next: str = "/") -> Response:  # noqa: A002
        back = str(request.url_for("come_back"))
        try:
            begun = accounts.oidc.begin(back, back=_inside(next))
        except WordmillError as error:
            return _login(request, house, next, error=error)
        response = RedirectResponse(begun.url, 303)
        response.set_cookie(
            STATE, begun.state, max_age=600, httponly=True, samesite="lax",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    @router.get("/login/oidc/back")
    def come_back(request: Request) -> Response:
        address, agent = _caller(request)
        try:
            ended = accounts.oidc.finish(
                dict(request.query_params), request.cookies.get(STATE, ""), address=address
            )
        except WordmillError as error:
            return _login(request, house, "/", error=error)
        if ended.person.role == "pending":
            return _waits(request)
        token = accounts.sessions.open(ended.person, address, agent, how="oidc")
        response = _signed_in(request, house, token, ended.back)
        response.delete_cookie(STATE)
        return response

    @router.post("/logout")
    @router.get("/logout")
    def sign_out(request: Request) -> Response:
        if request.headers.get("sec-fetch-dest", "document") != "document":
            return RedirectResponse("/", 303)  # a picture or a frame, not a person's click
        accounts.sessions.sign_out(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response


def _new_people_routes(router: APIRouter, house: House) -> None:
    accounts = house.accounts

    @router.get("/first")
    def first(request: Request, code: str = "") -> Response:
        if not accounts.people.none():
            return RedirectResponse("/login", 303)
        return _first(request, code)

    @router.post("/first")
    def make_first(
        request: Request,
        code: str = Form(),
        email: str = Form(),
        name: str = Form(),
        password: str = Form(),
    ) -> Response:
        _refuse_foreign(request)
        try:
            accounts.people.first_admin(code, email=email, name=name, password=password)
            token = accounts.sessions.sign_in(email, password, *_caller(request))
        except WordmillError as error:
            return _first(request, code, email, name, error)
        return _signed_in(request, house, token, "/")

    @router.get("/sign-up")
    def sign_up(request: Request) -> Response:
        if house.settings.sign_up == "closed":
            return RedirectResponse("/login", 303)
        return _sign_up(request)

    @router.post("/sign-up")
    def make_person(
        request: Request, email: str = Form(), name: str = Form(), password: str = Form()
    ) -> Response:
        _refuse_foreign(request)
        if house.settings.sign_up == "closed":
            return RedirectResponse("/login", 303)
        try:
            person = accounts.people.sign_up(email=email, name=name, password=password)
        except WordmillError as error:
            return _sign_up(request, email, name, error)
        if person.role == "pending":
            return _waits(request)
        return _signed_in(
            request, house, accounts.sessions.sign_in(email, password, *_caller(request)), "/"
        )

    @router.get("/password")
    def password(request: Request, code: str = "") -> Response:
        return _password(request, code)

    @router.post("/password")
    def choose_password(request: Request, code: str = Form(), password: str = Form()) -> Response:
        _refuse_foreign(request)
        try:
            person = accounts.people.redeem(code, password, address=_caller(request)[0])
            token = accounts.sessions.sign_in(person.email, password, *_caller(request))
        except WordmillError as error:
            return _password(request, code, error)
        return _signed_in(request, house, token, "/")


def _shared_routes(router: APIRouter, house: House) -> None:
    @router.get("/shared/{token}/{attachment}")
    def shared_file(token: str, attachment: str) -> Response:
        try:
            file, data = house.conversations.shared_attachment(token, attachment)
        except NotFound:
            return Response(status_code=404)
        kind = file.media_type if file.image else "application/octet-stream"
        name = quote(file.name, safe="")
        how = "inline" if file.image else "attachment"
        headers = {"content-disposition": f"{how}; filename*=utf-8''{name}"}
        headers |= {
            "content-security-policy": "default-src 'none'; sandbox",
            "cache-control": "no-store",
        }
        return Response(data, media_type=kind, headers=headers)

    @router.get("/shared/{token}")
    def shared(request: Request, token: str) -> Response:
        _ = texts_of(request)
        try:
            branch = house.conversations.shared(token)
        except NotFound:
            return page(
                request,
                _("This link leads nowhere"),
                words=_("It was never given out, or has been taken back."),
                status=404,
            )
        said = [
            {
                "who": _("Question") if one.role == "user" else one.model or _("Answer"),
                "role": one.role,
                "text": _markdown().render(one.text),
                "files": [
                    {
                        "name": part["name"],
                        "href": f"/shared/{token}/{part['id']}",
                        "image": str(part.get("media_type", "")).startswith("image/"),
                    }
                    for part in one.parts
                    if part.get("type") == "attachment"
                ],
            }
            for one in branch.messages[-_SHOWN:]
            if one.role in ("user", "assistant") and (one.text or one.attachments)
        ]
        return page(request, branch.title or _("A conversation"), messages=said, wide=True)


@cache
def _markdown() -> MarkdownIt:
    """Markdown without HTML and without pictures: nothing is run or fetched by showing it."""
    return (
        MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    )


def _password(request: Request, code: str, error: WordmillError | None = None) -> Response:
    _ = texts_of(request)
    return page(
        request,
        _("Choose a password"),
        words=_("The code is good once; an admin makes another."),
        action="/password",
        fields=[
            Field("code", _("One-time code"), value=code),
            Field("password", _("New password"), "password", "new-password"),
        ],
        button=_("Save"),
        links=[Link("/login", _("Sign in"))],
        error=error,
    )


def _waits(request: Request) -> Response:
    _ = texts_of(request)
    return page(request, _("Thank you"), words=_("An admin has to let you in. Come back later."))


def _login(
    request: Request, house: House, back: str, email: str = "", error: WordmillError | None = None
) -> Response:
    _ = texts_of(request)
    links = []
    if house.settings.sign_up != "closed":
        links.append(Link("/sign-up", _("Create an account")))
    buttons = []
    if house.accounts.oidc.configured:
        buttons.append(
            Link("/login/oidc", _("Sign in with {name}").format(name=house.accounts.oidc.name))
        )
    return page(
        request,
        _("Sign in"),
        action="/login",
        fields=[
            Field("email", _("E-mail"), "email", "username", email),
            Field("password", _("Password"), "password", "current-password"),
        ],
        hidden={"next": _inside(back)},
        button=_("Sign in"),
        links=links,
        buttons=buttons,
        error=error,
    )


def _first(
    request: Request,
    code: str,
    email: str = "",
    name: str = "",
    error: WordmillError | None = None,
) -> Response:
    _ = texts_of(request)
    return page(
        request,
        _("Welcome to Wordmill"),
        words=_(
            "You are the first one here, and become its admin. The code stands in the server's log."
        ),
        action="/first",
        fields=[
            Field("code", _("One-time code"), value=code),
            Field("name", _("Name"), autocomplete="name", value=name),
            Field("email", _("E-mail"), "email", "username", email),
            Field("password", _("Password"), "password", "new-password"),
        ],
        button=_("Begin"),
        error=error,
    )


def _sign_up(
    request: Request, email: str = "", name: str = "", error: WordmillError | None = None
) -> Response:
    _ = texts_of(request)
    return page(
        request,
        _("Create an account"),
        action="/sign-up",
        fields=[
            Field("name", _("Name"), autocomplete="name", value=name),
            Field("email", _("E-mail"), "email", "username", email),
            Field("password", _("Password"), "password", "new-password"),
        ],
        button=_("Create an account"),
        links=[Link("/login", _("Sign in"))],
        error=error,
    )


def page(
    request: Request,
    title: str,
    *,
    words: str = "",
    action: str = "",
    fields: list[Field] | None = None,
    hidden: Mapping[str, str] | None = None,
    button: str = "",
    links: list[Link] | None = None,
    buttons: list[Link] | None = None,
    messages: list[dict[str, Any]] | None = None,
    wide: bool = False,
    error: WordmillError | None = None,
    status: int = 200,
) -> HTMLResponse:
    """A page before the workbench, in the browser's language."""
    if error is not None:
        status = {Unauthenticated: 401, TooMany: 429}.get(type(error), 400)
    text = (
        _template()
        .get_template("door.html.jinja")
        .render(
            language=i18n.chosen(request.headers.get("accept-language")),
            title=title,
            words=words,
            action=action,
            fields=fields or [],
            hidden=hidden or {},
            button=button,
            links=links or [],
            buttons=buttons or [],
            messages=messages or [],
            wide=wide,
            error=str(error) if error else "",
        )
    )
    return HTMLResponse(text, status, headers={"cache-control": "no-store"})


@cache
def _template() -> Environment:
    return Environment(loader=PackageLoader("wordmill.channels.web"), autoescape=True)


def texts_of(request: Request) -> Callable[[str], str]:
    """gettext in the browser's language."""
    return i18n.texts(i18n.chosen(request.headers.get("accept-language"))).gettext


def _signed_in(request: Request, house: House, token: str, back: str) -> Response:
    settle_beside()
    response = RedirectResponse(_inside(back), 303)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(house.settings.session_longest),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


def _inside(back: str) -> str:
    """Only a path of this server: never a way to somebody else's."""
    fine = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    return back if fine else "/"


def _caller(request: Request) -> tuple[str, str]:
    """The address and the program that signs in."""
    return (
        request.client.host if request.client else "",
        request.headers.get("user-agent", "")[:500],
    )


def _refuse_foreign(request: Request) -> None:
    """A form that another site sent. Browsers name the origin of every POST."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Unauthenticated("This form came from another site.")

"""The way to Google and back, on which somebody connects their Drive.

Only who is signed in gets here (the gate sees to it). The state that Google sends back must be in
the browser's cookie too, and belong to the person who is signed in then.
"""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from wordmill.channels.house import House
from wordmill.channels.web.entry import Link, page, texts_of
from wordmill.channels.web.gate import COOKIE
from wordmill.errors import WordmillError

STATE: Final = "wordmill-drive"
"""The cookie of a connection that is being made."""
PATH: Final = "/drive/connect"


def make_connecting(house: House) -> APIRouter:
    """The routes, kept out of the OpenAPI: they are pages."""
    router = APIRouter(include_in_schema=False)
    accounts = house.accounts

    @router.get(PATH)
    def connect(request: Request) -> Response:
        try:
            who = accounts.sessions.check(request.cookies.get(COOKIE, ""))
            begun = accounts.drives.begin(who, str(request.url_for("drive_back")))
        except WordmillError as error:
            return _refused(request, error)
        response = RedirectResponse(begun.url, 303)
        response.set_cookie(
            STATE, begun.state, max_age=600, httponly=True, samesite="lax", path="/drive",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    @router.get("/drive/back")
    def drive_back(request: Request) -> Response:
        try:
            who = accounts.sessions.check(request.cookies.get(COOKIE, ""))
            state = request.cookies.get(STATE, "")
            accounts.drives.finish(who, dict(request.query_params), state)
        except WordmillError as error:
            return _refused(request, error)
        response = RedirectResponse("/settings?tab=documents", 303)
        response.delete_cookie(STATE, path="/drive")
        return response

    return router


def _refused(request: Request, error: WordmillError) -> Response:
    _ = texts_of(request)
    links = [Link("/settings?tab=documents", _("Back to the settings"))]
    return page(request, _("Google Drive is not connected"), links=links, error=error)

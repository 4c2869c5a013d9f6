"""Documents in the workbench: downloads, a template, a Google Drive."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import docx
import httpx
import pytest
from playwright.sync_api import expect

from tests.documents.reading import read
from tests.servers.gdrive import GDrive, serving
from tests.servers.talking import Talking
from tests.web.bench import ADMIN, PASSWORD, Bench
from tests.web.conftest import Server, served

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def google() -> Iterator[GDrive]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def server(
    google: GDrive, talk: Talking, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """With a model, and Google's stand-in."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "wordmill.toml").write_text(
        f'[models.talker]\nbase_url = "{talk.url}"\nmodel = "mock-1"\n'
    )
    with served(
        folder, WORDMILL_ADMIN_EMAIL=ADMIN, WORDMILL_ADMIN_PASSWORD=PASSWORD,
        WORDMILL_DEFAULT_MODEL="talker", WORDMILL_GDRIVE_URL=google.url,
        WORDMILL_GDRIVE_CLIENT_ID=google.client, WORDMILL_GDRIVE_CLIENT_SECRET=google.secret,
    ) as found:  # fmt: skip
        yield found


@pytest.fixture
def beyond(google: GDrive) -> tuple[str, ...]:
    return (google.url,)


def said(bench: Bench, text: str = "say: # Mills\n\nThey **turn**.") -> None:
    bench.say(text)
    expect(bench.button("Again", bench.answer(1))).to_be_visible()


def test_a_conversation_becomes_a_word_file(bench: Bench) -> None:
    said(bench)
    drawer = bench.drawer()
    drawer.get_by_role("tab", name="Share and export").click()
    bench.chosen("Title of the document").fill("../../x")
    drawer.get_by_role("button", name="Save", exact=True).last.click()
    bench.picture("document-drawer")
    with bench.page.expect_download() as coming:
        bench.button("Download as Word", drawer).click()
    assert coming.value.suggested_filename == "x.docx"
    found = read(Path(coming.value.path()).read_bytes())
    assert found.title == "../../x"
    assert [text for _, text in found.headings][1:] == ["talker", "Mills"]
    drawer.get_by_role("radio", name="the last answer").click()
    bench.idle()
    drawer.get_by_text("Who said what").click()
    expect(bench.chosen("Who said what")).not_to_be_checked()
    bench.idle()  # the button gives what was chosen when it was drawn
    with bench.page.expect_download() as coming:
        bench.button("Download as Word", drawer).click()
    assert read(Path(coming.value.path()).read_bytes()).headings == [(1, "Mills")]


def test_a_drive_is_connected_used_and_revoked(bench: Bench, google: GDrive) -> None:
    bench.go("/settings?tab=documents")
    way = bench.page.get_by_role("link", name=re.compile("Connect my Google Drive"))
    expect(way).to_have_attribute("href", "/drive/connect")
    bench.page.goto(f"{bench.url}/drive/connect")  # the link opens it in another tab
    bench.idle()
    assert bench.page.url == f"{bench.url}/settings?tab=documents"
    expect(bench.page.get_by_text("ann@gmail.example")).to_be_visible()
    bench.picture("document-settings")

    bench.chosen("Link to a folder").fill("https://docs.google.com/document/d/1234567890/edit")
    bench.button("Use this folder").click()
    expect(bench.page.get_by_role("alert")).to_contain_text("This link leads to a document")

    bench.go("/")
    said(bench)
    drawer = bench.drawer()
    drawer.get_by_role("tab", name="Share and export").click()
    bench.button("Save to Google Drive", drawer).click()
    expect(drawer.get_by_text("It is in Google Drive.")).to_be_visible()
    sent = google.documents()[-1]
    expect(drawer.get_by_role("link", name=re.compile("Open it"))).to_have_attribute(
        "href", sent["webViewLink"]
    )
    bench.picture("document-drive")
    google.revoke()
    bench.button("Save to Google Drive", drawer).click()
    expect(drawer.get_by_role("alert")).to_contain_text("Connect it again on the page Settings")
    bench.go("/settings?tab=documents")
    expect(bench.page.get_by_text("Google ended the connection.")).to_be_visible()


def test_google_says_no(bench: Bench, google: GDrive) -> None:
    google.denied = True
    try:
        bench.page.goto(f"{bench.url}/drive/connect")
        expect(bench.page.get_by_role("alert")).to_contain_text("answered with no")
    finally:
        google.denied = False


def test_what_comes_back_without_its_cookie_is_refused(
    server: Server, google: GDrive, bench: Bench
) -> None:
    out = httpx.get(f"{server.url}/drive/connect")
    assert out.headers["location"] == "/login?next=/drive/connect"
    cookies = {one["name"]: one["value"] for one in bench.page.context.cookies()}
    with httpx.Client(cookies={"wordmill": cookies["wordmill"]}) as client:
        begun = client.get(f"{server.url}/drive/connect")
        cookie = begun.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        back = httpx.get(begun.headers["location"]).headers["location"]
    session = {"cookie": f"wordmill={cookies['wordmill']}"}
    refused = httpx.get(back, headers=session)
    assert refused.status_code == 401
    assert "begun in another browser" in refused.text


def test_a_template_of_ones_own(bench: Bench) -> None:
    bench.go("/settings?tab=documents")
    word, sink = docx.Document(), io.BytesIO()
    word.styles["Heading 1"].font.name = "Letterhead"
    word.save(sink)
    upload = bench.page.get_by_test_id("stFileUploaderDropzoneInput")
    for name, data in (("bad.docx", b"no"), ("own.docx", sink.getvalue())):
        expect(upload).to_have_count(1)
        upload.set_input_files({"name": name, "mimeType": "application/zip", "buffer": data})
        expect(bench.page.get_by_text(name)).to_be_visible()
        bench.idle()
        bench.button("Use this template").click()
        if name == "bad.docx":
            expect(bench.page.get_by_text("The template is no Word document")).to_be_visible()
    expect(bench.page.get_by_text("Your template is used.")).to_be_visible()
    bench.button("Remove the template").click()
    expect(bench.page.get_by_text("Your template is used.")).to_have_count(0)


def test_in_german(opened: Callable[..., Bench]) -> None:
    one = opened(locale="de-DE")
    one.sign_in()
    one.go("/settings?tab=documents")
    expect(one.page.get_by_role("tab", name="Dokumente")).to_be_visible()
    expect(one.page.get_by_text("Eine Seite mit dem Titel")).to_be_visible()
    one.picture("document-settings-german")

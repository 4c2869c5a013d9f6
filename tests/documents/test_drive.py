"""Google Drive as documents use it, against a stand-in on a socket."""

from collections.abc import Iterator

import pytest

from tests.servers.gdrive import DRIVE_SCOPE, FILE_SCOPE, GDrive, serving
from wordmill.documents import drive as drives
from wordmill.documents.drive import Drive, folder_id
from wordmill.documents.google import Addresses, Client, Revoked, ServiceAccount, of_person
from wordmill.errors import ConfigError, ExportError, InvalidInput

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.fixture
def google() -> Iterator[GDrive]:
    with serving() as found:
        yield found


class Waits(list[float]):
    """How long it waited, without waiting."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def of_ann(
    google: GDrive, waits: Waits | None = None, scope: str = FILE_SCOPE, patience: float = 120.0
) -> Drive:
    refresh = google.connect()
    google.given_scopes["ann@gmail.example"] = scope
    addresses = Addresses.at(google.url)
    client = Client(google.client, google.secret)
    tokens = of_person(addresses, client, refresh)
    return Drive(addresses, tokens, sleep=Waits() if waits is None else waits, patience=patience)


def test_a_document_goes_into_a_folder_of_ones_own(google: GDrive) -> None:
    drive = of_ann(google)
    assert drive.account() == "ann@gmail.example"
    folder = drive.make_folder("Wordmill")
    sent = drive.upload("A report", b"PK" * 1000, WORD, folder.id, google_doc=True)
    assert sent.name == "A report"
    assert sent.link == f"https://docs.google.com/document/d/{sent.id}/edit"
    about = google.files[sent.id]
    assert about["parents"] == [folder.id]
    assert about["mimeType"] == "application/vnd.google-apps.document"
    assert google.data[sent.id] == b"PK" * 1000
    assert google.token_requests == ["refresh_token"]  # one for all of it


def test_the_same_name_is_another_file(google: GDrive) -> None:
    drive = of_ann(google)
    folder = drive.make_folder("Wordmill").id
    sent = [drive.upload("Report.docx", text, WORD, folder) for text in (b"one", b"two")]
    assert sent[0].id != sent[1].id
    assert [google.data[one.id] for one in sent] == [b"one", b"two"]


def test_a_service_account_signs_for_itself(google: GDrive) -> None:
    account = ServiceAccount.of(google.service_account())
    addresses = Addresses.at(google.url)
    drive = Drive(addresses, account.tokens(addresses), sleep=Waits())
    place = drive.folder("folder0001")
    assert place == ("folder0001", "Reports", "drive00001")
    drive.upload("a.docx", b"text", WORD, place.id)
    assert [one["owner"] for one in google.documents("folder0001")] == ["mill@project.example"]
    assert google.token_requests == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"client_email": "a"}',
                                  '{"client_email": "a", "private_key": "no key"}'])  # fmt: skip
def test_a_key_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="gdrive_service_account"):
        ServiceAccount.of(text)


def test_an_upload_goes_on_after_every_fault(
    google: GDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drives, "PIECE", 512 * 1024)
    waits = Waits()
    drive = of_ann(google, waits)
    folder = drive.make_folder("Wordmill").id
    data = bytes(range(256)) * 9000  # 2.2 MiB
    busy = {"error": {"errors": [{"reason": "userRateLimitExceeded"}], "message": "slower"}}
    google.faults = [
        503, lambda _: None,            # the session, at the second time
        lambda _: None, "half",         # a piece; half of one, then the connection breaks
        503, lambda _: None,            # asked how much there is, at the second time
        (429, {"Retry-After": "7"}, {}), (403, {}, busy),
        lambda _: None,                 # asked again
        lambda server: server.tokens.clear(),  # the token ends
        lambda _: None, "drop",         # the answer is lost
    ]  # fmt: skip
    sent = drive.upload("big.docx", data, WORD, folder)
    assert google.data[sent.id] == data
    assert len(google.documents()) == 1
    assert 7.0 in waits
    assert google.token_requests == ["refresh_token"] * 2


def test_the_answer_that_is_lost_at_the_very_end_makes_no_second_file(google: GDrive) -> None:
    drive = of_ann(google)
    folder = drive.make_folder("Wordmill").id

    def finish(server: GDrive) -> None:
        """The file is there, but nobody hears of it."""
        session = next(iter(server.uploads.values()))
        session["done"] = server.create("ann@gmail.example", session["about"], b"text")
        server.faults.insert(0, 503)

    google.faults = [lambda _: None, finish]
    sent = drive.upload("a.docx", b"text", WORD, folder)
    assert [one["id"] for one in google.documents()] == [sent.id]


def test_a_folder_whose_making_is_not_heard_of_is_one(google: GDrive) -> None:
    drive = of_ann(google)
    google.faults = [lambda _: None, "lost"]
    made = drive.make_folder("Wordmill")
    assert [one["id"] for one in google.files.values() if one["name"] == "Wordmill"] == [made.id]


def test_a_session_that_is_forgotten_begins_anew(google: GDrive) -> None:
    drive = of_ann(google)
    folder = drive.make_folder("Wordmill").id
    google.faults = [lambda _: None, lambda server: server.uploads.clear()]
    sent = drive.upload("a.docx", b"text", WORD, folder)
    assert google.data[sent.id] == b"text"


def test_a_rate_limit_of_a_minute_is_waited_for_or_named(google: GDrive) -> None:
    waits = Waits()
    drive = of_ann(google, waits)
    google.faults = [(429, {"Retry-After": "60"}, {})]
    drive.make_folder("Wordmill")
    assert waits == [60.0]
    google.faults = [(429, {"Retry-After": "600"}, {})]
    with pytest.raises(ExportError) as error:
        drive.make_folder("Wordmill")
    assert str(error.value) == (
        "Google Drive asks for fewer requests at the moment (status 429). Try again in 600 s."
    )


def test_what_is_revoked_in_mid_upload_says_so(
    google: GDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drives, "PIECE", 256 * 1024)
    drive = of_ann(google)
    folder = drive.make_folder("Wordmill").id
    google.faults = [lambda _: None, lambda _: None, GDrive.revoke]
    with pytest.raises(Revoked) as error:
        drive.upload("big.docx", b"x" * 600_000, WORD, folder)
    assert str(error.value) == (
        "Google no longer lets Wordmill into this Drive (Token has been expired or revoked.)."
    )
    assert google.documents() == []


def test_a_server_that_is_not_there_is_named(google: GDrive) -> None:
    drive = of_ann(google, patience=0.0)
    drive.make_folder("Wordmill")
    google.faults = ["drop"] * 9
    with pytest.raises(ExportError, match="Google Drive cannot be reached"):
        drive.make_folder("Wordmill")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("storageQuotaExceeded", "There is no room left in this Google Drive."),
        ("insufficientFilePermissions",
         "Google Drive does not let Wordmill do this: Not allowed."),
    ],
)  # fmt: skip
def test_a_refusal_is_told_and_not_repeated(google: GDrive, reason: str, words: str) -> None:
    waits = Waits()
    drive = of_ann(google, waits)
    told = {"error": {"errors": [{"reason": reason}], "message": "Not allowed"}}
    google.faults = [(403, {}, told)]
    with pytest.raises(ExportError) as error:
        drive.make_folder("Wordmill")
    assert str(error.value) == words
    assert waits == []


def test_only_a_folder_that_one_may_write_to(google: GDrive) -> None:
    drive = of_ann(google, scope=DRIVE_SCOPE)
    assert drive.folder("folder0001").name == "Reports"
    with pytest.raises(InvalidInput, match=r"'A table' is no folder: it is a file"):
        drive.folder("table00001")
    with pytest.raises(InvalidInput, match=r"has no such folder for Wordmill"):
        drive.folder("nowhere0001")
    google.add("binned0001", "Old", "application/vnd.google-apps.folder", trashed=True)
    with pytest.raises(InvalidInput, match="'Old' is in the bin"):
        drive.folder("binned0001")
    google.add("readonly01", "Theirs", "application/vnd.google-apps.folder",
               capabilities={"canAddChildren": False})  # fmt: skip
    with pytest.raises(InvalidInput, match="may look into the folder 'Theirs'"):
        drive.folder("readonly01")


def test_with_the_narrow_scope_only_what_was_made_here_is_there(google: GDrive) -> None:
    drive = of_ann(google)
    with pytest.raises(InvalidInput, match="has no such folder for Wordmill"):
        drive.folder("folder0001")
    made = drive.make_folder("Wordmill")
    assert drive.folder(made.id).name == "Wordmill"


ID = "1AbC_d-EfGhIjKlMnOpQrStUvWxYz0123"


@pytest.mark.parametrize(
    "link",
    [
        ID, f" {ID} ", f"https://drive.google.com/drive/folders/{ID}",
        f"https://drive.google.com/drive/folders/{ID}?usp=sharing",
        f"<https://drive.google.com/drive/u/1/folders/{ID}>",
        f"drive.google.com/drive/folders/{ID}", f"https://drive.google.com/open?id={ID}",
        f"https://drive.google.com/folderview?id={ID}&usp=drive_web",
    ],
)  # fmt: skip
def test_the_id_of_a_folder_is_whole(link: str) -> None:
    assert folder_id(link) == ID


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("https://example.org/folders/" + ID, "no link to a folder of Google Drive"),
        ("https://drive.google.com.evil.example/drive/folders/" + ID, "no link to a folder"),
        ("https://drive.google.com@evil.example/drive/folders/" + ID, "no link to a folder"),
        (f"https://docs.google.com/document/d/{ID}/edit", "leads to a document"),
        (f"https://docs.google.com/spreadsheets/d/{ID}/edit", "leads to a table"),
        (f"https://drive.google.com/file/d/{ID}/view", "leads to a file"),
        ("https://drive.google.com/drive/my-drive", "leads to something else"),
        ("https://drive.google.com/drive/folders/../../x", "leads to something else"),
        ("../../x", "no link to a folder"), ("", "no link to a folder"),
        ("http://[::1", "no link to a folder"),
    ],
)  # fmt: skip
def test_a_link_to_something_else_is_refused_in_a_sentence(link: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        folder_id(link)

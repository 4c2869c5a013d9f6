"""Documents of conversations: by command, for two people, into files and Google Drive."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

import docx
import httpx
import pytest
from sqlalchemy import update

from tests.documents.conftest import png
from tests.documents.reading import read
from tests.servers.gdrive import GDrive, connect, serving
from wordmill.accounts import LOCAL_PERSON, Person
from wordmill.accounts.identities import guest_address
from wordmill.channels.house import House, open_house
from wordmill.chat.documenting import Choices
from wordmill.chat.documents import Wish
from wordmill.commands import COMMANDS, Context, Outcome
from wordmill.commands.documents import of_message
from wordmill.database import drives as table
from wordmill.documents import look
from wordmill.documents.making import Maker
from wordmill.errors import (
    ConfigError,
    Conflict,
    InvalidInput,
    NotFound,
    Unauthenticated,
)
from wordmill.settings import load

PASSWORD = "correct horse battery staple"
BACK = "http://127.0.0.1:1/drive/back"


@pytest.fixture
def google() -> Iterator[GDrive]:
    with serving() as found:
        yield found


@pytest.fixture
def options() -> dict[str, str]:
    """More settings, by environment."""
    return {}


@pytest.fixture
def house(
    google: GDrive, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    told = {
        "GDRIVE_URL": google.url, "GDRIVE_CLIENT_ID": google.client,
        "GDRIVE_CLIENT_SECRET": google.secret, **options,
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(f"WORDMILL_{name}", value)
    with open_house(load()) as opened:
        opened.documents.maker = Maker(pandoc=False)
        yield opened


@dataclass
class Talk:
    """A person in a conversation."""

    house: House
    person: Person
    id: str

    def run(self, line: str) -> Outcome:
        return COMMANDS.run(Context(self.person, self.house, "shell", self.id), line)

    def say(self, role: str, text: str, **more: object) -> str:
        add = self.house.conversations.add
        model = "talker" if role == "assistant" else None
        return add(self.person, self.id, role, text, door="shell", model=model, **more).id  # type: ignore[arg-type]


def talk(house: House, person: Person, title: str = "Water mills") -> Talk:
    """Two questions and their answers."""
    made = Talk(house, person, house.conversations.create(person, title=title).id)
    for number in ("first", "second"):
        made.say("user", f"The {number} question?")
        made.say("assistant", f"# Of mills\n\nThe {number} **answer**.")
    return made


@pytest.fixture
def ann(house: House) -> Talk:
    create = house.accounts.people.create
    person = create(LOCAL_PERSON, "ann@example.org", "Ann", PASSWORD, "admin")
    return talk(house, person)


@pytest.fixture
def bob(house: House, ann: Talk) -> Talk:
    create = house.accounts.people.create
    return talk(house, create(ann.person, "bob@example.org", "Bob", PASSWORD, "member"))


def test_the_last_answer_another_and_a_range(ann: Talk) -> None:
    made = ann.run("/make-docx")
    assert made.text == "The document `Water mills`."
    assert made.file is not None
    assert made.file.name == "water-mills.docx"
    found = read(made.file.data)
    assert (found.title, found.headings, found.paragraphs, found.author) == (
        "Water mills", [(1, "Of mills")], ["The second answer."], "Ann"
    )  # fmt: skip
    assert read(ann.run("/make-docx 2").file.data).paragraphs == ["The first answer."]
    both = ["The first answer.", "The second answer."]
    assert read(ann.run("/make-docx 2 1").file.data).paragraphs == both
    assert read(ann.run("--make-docx 1 2").file.data).paragraphs == both
    with pytest.raises(Conflict) as error:
        ann.run("/make-docx 3")
    assert str(error.value) == (
        "There are 2 answers in this conversation, so none is the 3. from the end."
    )


def test_one_message_that_is_pointed_at(house: House, ann: Talk, bob: Talk) -> None:
    first = house.conversations.branch(ann.person, ann.id)[1].id
    made = of_message(Context(ann.person, house, "discord", ann.id), first)
    assert read(made.file.data).paragraphs == ["The first answer."]
    for person, conversation, message in (
        (ann, bob.id, first), (bob, bob.id, first), (ann, ann.id, "nowhere"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            of_message(Context(person.person, house, "discord", conversation), message)


def test_where_nothing_was_answered(house: House, ann: Talk) -> None:
    empty = replace(ann, id=house.conversations.create(ann.person).id)
    with pytest.raises(Conflict, match="There is no answer here yet"):
        empty.run("/make-docx")
    with pytest.raises(Conflict, match="Nothing has been said here yet"):
        empty.run("/export docx")


def test_speakers_title_page_and_sources_by_choice(house: House, ann: Talk) -> None:
    ann.say("user", "More?")
    ann.say("assistant", "See [the mill](https://mill.example/a) and https://b.example.")
    house.documents.choose(ann.person, speakers=True, title_page=True, sources=True)
    found = read(ann.run("/make-docx 2 1").file.data)
    assert found.headings == [
        (1, "Ann"), (1, "talker"), (2, "Of mills"), (1, "Ann"), (1, "talker"), (1, "Sources")
    ]  # fmt: skip
    assert found.front[0] == "Ann"
    assert found.page_breaks == 1
    assert [text for _, _, text in found.items] == [
        "the mill: https://mill.example/a", "https://b.example"
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match=r"no 'speaker'\. Did you mean 'speakers'"):
        house.documents.choose(ann.person, speaker=True)
    with pytest.raises(InvalidInput, match="true or false"):
        house.documents.choose(ann.person, sources="yes")


def test_the_look_is_chosen_by_a_command_and_its_words_are_in_the_persons_language(
    house: House, ann: Talk
) -> None:
    assert "- `speakers`: no (" in ann.run("/document-look").text
    chosen = ann.run("/document-look title-page, speakers sources no-google-doc")
    assert chosen.data["choices"] == {
        "title-page": True, "speakers": True, "sources": True, "google-doc": False
    }  # fmt: skip
    assert ann.run("/document-look no-title-page").data["choices"]["title-page"] is False
    assert house.documents.kept(ann.person).choices == Choices(False, True, True, False)
    with pytest.raises(InvalidInput, match=r"no 'speaker'\. Did you mean 'speakers'"):
        ann.run("/document-look speaker")
    ann.say("user", "More?")
    ann.say("assistant", "See https://b.example.")
    german = replace(ann, person=replace(ann.person, language="de-AT"))
    assert read(german.run("/make-docx").file.data).headings[-1] == (1, "Quellen")
    assert "## Du\n" in german.run("/export").file.data.decode()
    assert "## You\n" in ann.run("/export").file.data.decode()


def test_a_whole_conversation_says_who_spoke(ann: Talk) -> None:
    made = ann.run("/export docx")
    assert made.text == "The conversation as Word."
    assert read(made.file.data).paragraphs == [
        "The first question?", "The first answer.", "The second question?", "The second answer."
    ]  # fmt: skip


def test_others_who_talked_along_are_named(house: House, ann: Talk, bob: Talk) -> None:
    ann.say("user", "And mine?", author=bob.person.id)
    ann.say("assistant", "Yours too.")
    ann.say("user", "Nobody's?", author="0123456789abcdef01234567")
    ann.say("assistant", "No.")
    house.documents.choose(ann.person, speakers=True)
    found = read(ann.run("/make-docx 3 1").file.data)
    speakers = [text for level, text in found.headings if level == 1 and text != "talker"]
    assert speakers == ["Ann", "Bob", "Somebody"]


def test_what_cannot_be_made_here_says_what_is_missing(house: House, ann: Talk) -> None:
    house.documents.maker = Maker(pandoc=False, office=False)
    assert house.documents.maker.forms == ("docx",)
    with pytest.raises(ConfigError, match="A PDF is made by LibreOffice, which is not installed"):
        ann.run("/export pdf")
    with pytest.raises(ConfigError, match="An ODT is made by pandoc or LibreOffice"):
        ann.run("/export odt")


def test_odt_by_pandoc(house: House, ann: Talk) -> None:
    house.documents.maker = Maker(office=False)
    made = ann.run("/export odt").file
    assert made.name == "water-mills.odt"
    text = zipfile.ZipFile(io.BytesIO(made.data)).read("content.xml").decode()
    assert "The second" in text


def test_markdown_of_a_range(house: House, ann: Talk) -> None:
    made = house.documents.make(ann.person, ann.id, Wish("markdown", n=1))
    assert made.ending == "md"
    assert "The second **answer**." in made.data.decode()
    assert "The first **answer**." not in made.data.decode()


TITLES = ["../../x", "/etc/passwd", "..\\..\\x", "a\x00b", "CON", "\u202egpj.exe", "." * 300, " "]


def test_a_title_is_never_a_path(house: House, ann: Talk) -> None:
    for title in TITLES:
        try:
            house.conversations.change(ann.person, ann.id, document_title=title)
        except InvalidInput:
            continue
        made = ann.run("/make-docx").file
        assert made.name.endswith(".docx")
        assert not set(made.name) & set("/\\\0\u202e")
        assert ".." not in made.name
        assert read(made.data).title


def test_html_zalgo_and_right_to_left_stay_text(house: House, ann: Talk) -> None:
    zalgo = "z" + "\u0301\u0327\u0489" * 30
    house.conversations.change(ann.person, ann.id, document_title=f"<b>{zalgo}</b> שלום")
    ann.say("assistant", "<img src=http://127.0.0.1:9/> @everyone\n\nمرحبا " + "و" * 60_000)
    made = ann.run("/make-docx").file
    found = read(made.data)
    assert found.title == f"<b>{zalgo}</b> שלום"
    assert found.paragraphs[0] == "<img src=http://127.0.0.1:9/> @everyone"
    assert len(found.right_to_left[0]) > 60_000
    assert len(made.name) <= 65


def test_pictures_only_of_the_conversation(house: House, ann: Talk, bob: Talk) -> None:
    add = house.conversations.attachments.add
    mine = add(ann.person, "chart.png", png(), conversation=ann.id)
    theirs = add(bob.person, "secret.png", png(40, 40), conversation=bob.id)
    ann.say("user", "What is this?", attachments=[mine.id])
    ann.say("assistant", f"![It](chart.png) ![no](secret.png) ![no]({theirs.id})")
    house.documents.choose(ann.person, speakers=True)
    found = read(ann.run("/make-docx").file.data)
    assert [(alt, blob == png()) for alt, blob, _ in found.pictures] == [
        ("chart.png", True), ("It", True)
    ]  # fmt: skip
    house.documents.choose(ann.person, speakers=False)
    alone = read(ann.run("/make-docx").file.data)  # the question with the picture is not in it
    assert alone.pictures == []


def test_nobody_makes_documents_of_anothers(house: House, ann: Talk, bob: Talk) -> None:
    with pytest.raises(NotFound):
        replace(bob, id=ann.id).run("/make-docx")
    with pytest.raises(NotFound):
        house.documents.set_folder(bob.person, None, conversation=ann.id)


# Templates


def template(**more: object) -> bytes:
    word, sink = docx.Document(), io.BytesIO()
    word.styles["Heading 1"].font.name = "Letterhead"
    word.save(sink)
    return sink.getvalue()


def test_a_template_is_ones_own(house: House, ann: Talk, bob: Talk) -> None:
    house.documents.set_template(ann.person, template())
    assert house.documents.kept(ann.person).template
    assert not house.documents.kept(bob.person).template

    def font(one: Talk) -> str:
        made = one.run("/make-docx").file
        return str(docx.Document(io.BytesIO(made.data)).styles["Heading 1"].font.name)

    assert font(ann) == "Letterhead"
    assert font(bob) == "Calibri"
    house.documents.remove_template(ann.person)
    assert font(ann) == "Calibri"
    with pytest.raises(NotFound):
        house.documents.remove_template(ann.person)


def changed(data: bytes, name: str, text: bytes) -> bytes:
    """A template with another part."""
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.infolist():
            if part.filename != name:
                new.writestr(part, old.read(part))
        new.writestr(name, text)
    return sink.getvalue()


RELS = (
    b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    b'<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    b'relationships/attachedTemplate" Target="http://127.0.0.1:9/x.dotm" TargetMode="External"/>'
    b"</Relationships>"
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no Word document"), (b"PK\x03\x04", "no Word document"),
        (b"x" * 11_000_000, "10,485,760 are the most"),
        (changed(template(), "word/vbaProject.bin", b"x"), "macros"),
        (changed(template(), "word/_rels/settings.xml.rels", RELS), "fetch something from else"),
        (changed(template(), "word/_rels/a.xml.rels", b"<not"), "damaged"),
        (changed(template(), "word/document.xml", b"<not"), "no Word document"),
        (changed(template(), "word/media/a.png", b" " * 22_000_000), "unpacks to more than"),
        (changed(template(), "word/styles.xml", b" " * 6_000_000), "a part of more than 5,242,880"),
    ],
    ids=["empty", "cut", "large", "macros", "fetches", "relations", "document", "bomb", "part"],
)  # fmt: skip
def test_a_template_that_is_none_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        look.completed(data)


# Google Drive


def test_into_a_drive_of_ones_own(house: House, ann: Talk, google: GDrive) -> None:
    connect(house, ann.person)
    assert house.accounts.drives.status(ann.person).account == "ann@gmail.example"
    made = ann.run("/make-docx")
    link = made.data["drive"]["link"]
    assert made.text == f"The document `Water mills`.\n\nIn Google Drive: {link}"
    assert made.file is not None
    again = ann.run("/make-docx").data["drive"]["link"]
    assert again != link
    folders = [one for one in google.files.values() if one["name"] == "Wordmill"]
    assert len(folders) == 1
    names = [one["name"] for one in google.documents(folders[0]["id"])]
    assert names == ["Water mills", "Water mills"]
    house.documents.choose(ann.person, google_doc=False)
    ann.run("/make-docx")
    assert google.documents()[-1]["name"] == "Water mills.docx"


def test_the_title_of_a_file_in_a_drive_is_a_name(house: House, ann: Talk, google: GDrive) -> None:
    connect(house, ann.person)
    ann.run("/set-document-title ../../x 'or' \"")
    ann.run("/make-docx")
    assert google.documents()[-1]["name"] == "../../x 'or' \""  # a name there, never a path
    assert google.documents()[-1]["parents"] != ["root"]


def test_a_folder_that_was_removed_is_made_again(house: House, ann: Talk, google: GDrive) -> None:
    connect(house, ann.person)
    ann.run("/make-docx")
    folder = next(one for one in google.files.values() if one["name"] == "Wordmill")
    folder["trashed"] = True
    made = ann.run("/make-docx")
    assert "link" in made.data["drive"]
    assert sum(one["name"] == "Wordmill" for one in google.files.values()) == 2


def test_what_is_revoked_says_so_until_it_is_connected_again(
    house: House, ann: Talk, google: GDrive
) -> None:
    connect(house, ann.person)
    ann.run("/make-docx")
    google.faults = [lambda _: None, GDrive.revoke]
    made = ann.run("/make-docx")
    assert made.file is not None  # the document is there all the same
    assert made.text.endswith(
        "It is not in Google Drive: Google no longer lets Wordmill into this Drive (Token has been "
        "expired or revoked.). Connect it again on the page Settings, under Documents."
    )
    assert house.accounts.drives.status(ann.person).ended is not None
    assert "Your Google Drive is no longer connected" in ann.run("/make-docx").text
    connect(house, ann.person)
    assert "link" in ann.run("/make-docx").data["drive"]


def test_disconnecting_takes_the_token_back(house: House, ann: Talk, google: GDrive) -> None:
    connect(house, ann.person)
    house.accounts.drives.disconnect(ann.person)
    assert google.refresh == {}
    assert house.accounts.drives.status(ann.person) is None
    assert "drive" not in ann.run("/make-docx").data
    with pytest.raises(NotFound):
        house.accounts.drives.disconnect(ann.person)


def test_connecting_another_account_takes_the_first_ones_token_back(
    house: House, ann: Talk, google: GDrive
) -> None:
    connect(house, ann.person)
    connect(house, ann.person)
    first, second = google.refresh  # of one account: Google would take back both at once
    with house.database.begin() as connection:
        connection.execute(update(table).values(account="other@gmail.example"))
    connect(house, ann.person)
    assert first in google.refresh
    assert second not in google.refresh
    assert "link" in ann.run("/make-docx").data["drive"]


def test_the_refresh_token_is_nowhere_in_the_clear(house: House, ann: Talk, google: GDrive) -> None:
    connect(house, ann.person)
    token = next(iter(google.refresh)).encode()
    for file in house.settings.home.rglob("*"):
        assert not file.is_file() or token not in file.read_bytes(), file


def test_a_connection_is_bound_to_who_began_it(
    house: House, ann: Talk, bob: Talk, google: GDrive
) -> None:
    drives = house.accounts.drives
    begun = drives.begin(ann.person, BACK)
    query = {"state": begun.state, "code": "code-1"}
    with pytest.raises(Unauthenticated, match="begun in another browser"):
        drives.finish(ann.person, query, "")
    with pytest.raises(Unauthenticated, match="begun in another browser"):
        drives.finish(ann.person, query | {"state": "other"}, begun.state)
    with pytest.raises(Unauthenticated, match="begun by somebody else"):
        drives.finish(bob.person, query, begun.state)
    with pytest.raises(Unauthenticated, match="took too long"):  # once is once
        drives.finish(ann.person, query, begun.state)
    google.denied = True
    begun = drives.begin(ann.person, BACK)
    with pytest.raises(Unauthenticated, match="answered with no"):
        drives.finish(ann.person, {"state": begun.state, "error": "access_denied"}, begun.state)
    google.denied, google.granted = False, "openid"
    with pytest.raises(Unauthenticated, match="leave the box for Google Drive ticked"):
        connect(house, ann.person)
    assert drives.status(ann.person) is None


def test_a_code_without_its_verifier_is_worth_nothing(
    house: House, ann: Talk, google: GDrive
) -> None:
    begun = house.accounts.drives.begin(ann.person, BACK)
    other = house.accounts.drives.begin(ann.person, BACK)
    code = parse_qs(urlsplit(httpx.get(begun.url).headers["location"]).query)["code"][0]
    with pytest.raises(Unauthenticated, match="Google connected nothing"):
        house.accounts.drives.finish(ann.person, {"state": other.state, "code": code}, other.state)


def test_a_folder_by_link_for_a_person_and_a_conversation(
    house: House, ann: Talk, google: GDrive
) -> None:
    connect(house, ann.person)
    mine = google.create("ann@gmail.example", {"name": "Mine", "mimeType": FOLDER}, None)["id"]
    here = google.create("ann@gmail.example", {"name": "Here", "mimeType": FOLDER}, None)["id"]
    assert ann.run(f"/set-gdrive-folder https://drive.google.com/drive/folders/{mine}").text == (
        "Your documents go to the folder `Mine` of Google Drive from now on."
    )
    ann.run("/make-docx")
    assert google.documents()[-1]["parents"] == [mine]
    assert ann.run(f"/set-gdrive-folder {here} here").text == (
        "The documents of this conversation go to the folder `Here` of Google Drive from now on."
    )
    ann.run("/make-docx")
    assert google.documents()[-1]["parents"] == [here]
    talk(house, ann.person).run("/make-docx")
    assert google.documents()[-1]["parents"] == [mine]
    ann.run("/set-gdrive-folder none here")
    ann.run("/make-docx")
    assert google.documents()[-1]["parents"] == [mine]
    with pytest.raises(InvalidInput, match="has no such folder for Wordmill"):
        ann.run("/set-gdrive-folder folder0001")
    with pytest.raises(InvalidInput, match="leads to a document"):
        ann.run(f"/set-gdrive-folder https://docs.google.com/document/d/{mine}/edit")
    del google.files[mine]
    made = ann.run("/make-docx")
    assert made.file is not None
    assert "It is not in Google Drive: Google Drive has no such folder" in made.text


FOLDER = "application/vnd.google-apps.folder"


class TestServiceAccount:
    """One shared drive, for everybody who names a folder of it."""

    @pytest.fixture
    def options(self, google: GDrive) -> dict[str, str]:
        return {
            "GDRIVE_SERVICE_ACCOUNT": google.service_account(),
            "GDRIVE_DRIVE": "https://drive.google.com/drive/folders/drive00001",
        }

    def test_into_a_folder_of_the_shared_drive(
        self, house: House, ann: Talk, bob: Talk, google: GDrive
    ) -> None:
        assert "drive" not in ann.run("/make-docx").data  # nobody asked for that
        for one in (ann, bob):
            one.run("/set-gdrive-folder folder0001")
            one.run("/make-docx")
        owners = {one["owner"] for one in google.documents("folder0001")}
        assert owners == {"mill@project.example"}
        assert [one["name"] for one in google.documents("folder0001")] == ["Water mills"] * 2
        assert len({one["id"] for one in google.documents("folder0001")}) == 2

    def test_never_beyond_that_drive(self, house: House, ann: Talk, google: GDrive) -> None:
        with pytest.raises(InvalidInput, match="'Private' is not in the shared drive"):
            ann.run("/set-gdrive-folder private001")
        ann.run("/set-gdrive-folder folder0001")
        google.files["folder0001"]["driveId"] = "elsewhere1"
        assert "is no longer in the shared drive" in ann.run("/make-docx").text
        assert google.documents() == []

    def test_it_is_not_for_guests(self, house: House, ann: Talk, google: GDrive) -> None:
        guest = replace(ann, person=replace(ann.person, email=guest_address("matrix", "@e:x.org")))
        assert house.accounts.drives.reached(ann.person)
        assert not house.accounts.drives.reached(guest.person)
        with pytest.raises(ConfigError, match="Guests have no Google Drive"):
            guest.run("/set-gdrive-folder folder0001")
        ann.run("/set-gdrive-folder folder0001 here")
        assert "Guests have no Google Drive" in guest.run("/make-docx").text
        assert google.documents() == []

    def test_a_drive_of_ones_own_comes_first(self, house: House, ann: Talk, google: GDrive) -> None:
        connect(house, ann.person)
        ann.run("/make-docx")
        assert [one["owner"] for one in google.documents()] == ["ann@gmail.example"]


class TestNotSetUp:
    @pytest.fixture
    def options(self) -> dict[str, str]:
        return {"GDRIVE_CLIENT_ID": "", "GDRIVE_CLIENT_SECRET": ""}

    def test_it_says_who_sets_it_up(self, house: House, ann: Talk) -> None:
        with pytest.raises(ConfigError, match="This installation is not connected to Google"):
            ann.run("/set-gdrive-folder x")
        with pytest.raises(ConfigError, match="An admin sets it up with gdrive_client_id"):
            house.accounts.drives.begin(ann.person, BACK)
        assert ann.run("/make-docx").text == "The document `Water mills`."


def test_nothing_of_a_temporary_conversation_goes_to_a_drive(
    house: House, ann: Talk, google: GDrive
) -> None:
    connect(house, ann.person)
    made = house.conversations.create(ann.person, temporary=True)
    one = replace(ann, id=made.id)
    one.say("user", "Hm?")
    one.say("assistant", "Yes.")
    outcome = one.run("/make-docx")
    assert outcome.file is not None
    assert "Nothing of a temporary conversation is kept" in outcome.text
    assert google.documents() == []


def test_all_of_somebody_goes_with_the_account(house: House, ann: Talk, bob: Talk) -> None:
    connect(house, bob.person)
    house.documents.set_template(bob.person, template())
    house.documents.choose(bob.person, speakers=True)
    house.accounts.people.remove(ann.person, bob.person.id)
    assert house.accounts.drives.status(bob.person) is None
    kept = house.documents.kept(bob.person)
    assert not kept.template
    assert not kept.choices.speakers

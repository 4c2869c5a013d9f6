"""Other people's exports and our own: read without trust, and nothing twice."""

import io
import json
import random
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chat.conftest import Somebody
from tests.chat.test_attachments import png
from wordmill.chat.archives import Archive
from wordmill.chat.conversations import Conversations
from wordmill.chat.foreign import draft
from wordmill.chat.importing import Importer
from wordmill.chat.types import Imported
from wordmill.errors import InvalidInput


def node(name: str, parent: str | None, role: str, text: object, **more: Any) -> dict[str, Any]:
    content = text if isinstance(text, dict) else {"content_type": "text", "parts": [text]}
    message = {"id": name, "author": {"role": role}, "content": content, "create_time": 1.7e9}
    return {"id": name, "parent": parent, "children": [], "message": message | more}


def chatgpt(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "conversation_id": "c1", "title": "Bread", "create_time": 1.6e9, "update_time": 1.7e9,
        "mapping": {one["id"]: one for one in nodes}, "current_node": nodes[-1]["id"],
        "an_unknown_field": {"x": 1}, **more,
    }  # fmt: skip


ROOT = {"id": "root", "parent": None, "children": [], "message": None}
HIDDEN = {"is_visually_hidden_from_conversation": True}
BREAD = chatgpt(
    ROOT,
    node("sys", "root", "system", "hidden", metadata=HIDDEN),
    node("q", "sys", "user", "How do I bake?"),
    node("t", "q", "assistant", {"content_type": "thoughts", "thoughts": [
        {"summary": "Think", "content": "of flour"}]}),
    node("a1", "t", "assistant", "With flour.", metadata={"model_slug": "gpt-4o"}),
    node("q2", "a1", "user", "And then?"),
    node("a2", "q", "assistant", "With water.", metadata={"model_slug": "o1"}),
)  # fmt: skip
CLAUDE = {
    "uuid": "u1", "name": "Rain", "created_at": "2025-01-02T03:04:05.6Z",
    "updated_at": "2025-02-03T04:05:06Z", "account": {"uuid": "x"},
    "chat_messages": [
        {"uuid": "m1", "sender": "human", "text": "Why rain?", "created_at": "2025-01-02T03:04:05Z",
         "content": [{"type": "text", "text": "Why rain?"}],
         "attachments": [{"file_name": "n.txt", "extracted_content": "note"}],
         "files": [{"file_name": "photo.png"}]},
        {"uuid": "m2", "sender": "assistant", "text": "", "content": [
            {"type": "thinking", "thinking": "Clouds…"}, {"type": "text", "text": "Clouds."},
            {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "rain"}},
            {"type": "tool_result", "tool_use_id": "t1", "name": "search",
             "content": [{"type": "text", "text": "wet"}]},
            {"type": "hologram"}]},
    ],
}  # fmt: skip


def packed(*conversations: object, **files: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("export/conversations.json", json.dumps(conversations))
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return file


def listed(*conversations: object) -> io.BytesIO:
    return io.BytesIO(json.dumps(conversations).encode())


@pytest.fixture
def importer(store: Conversations) -> Importer:
    return Importer(store)


def only(store: Conversations, person: Somebody) -> str:
    (one,) = store.all(person, archived=None).items
    return one.id


def test_chatgpt_with_its_branches_and_thoughts(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    assert importer.take(ada, listed(BREAD)) == Imported(made=1, messages=4)
    of = store.get(ada, only(store, ada))
    assert (of.title, of.source, of.titled_by) == ("Bread", "chatgpt:c1", "model")
    assert (of.created.timestamp(), of.updated.timestamp()) == (1.6e9, 1.7e9)
    shown = store.branch(ada, of.id)
    assert [(one.role, one.text, one.model) for one in shown] == [
        ("user", "How do I bake?", None), ("assistant", "With water.", "o1"),
    ]  # fmt: skip
    assert [one.origin for one in shown] == ["chatgpt:q", "chatgpt:a2"]
    first, second = store.siblings(ada, shown[1].id)
    assert (first.text, first.reasoning, first.model) == (
        "With flour.",
        "Think\nof flour",
        "gpt-4o",
    )
    assert (second.siblings, second.place) == (2, 2)
    assert [one.text for one in store.children(ada, first.id)] == ["And then?"]
    assert shown[0].author == "local"
    assert shown[0].door == "import"
    assert [hit.message for hit in store.search(ada, "flour").items] == [first.id]


def test_importing_again_adds_what_is_new_and_nothing_twice(
    store: Conversations, importer: Importer, ada: Somebody, ben: Somebody
) -> None:
    importer.take(ada, listed(BREAD))
    assert importer.take(ada, packed(BREAD)) == Imported(known=1)
    grown = json.loads(json.dumps(BREAD))
    grown["mapping"]["q3"] = node("q3", "a2", "user", "Thanks")
    grown["current_node"] = "q3"
    assert importer.take(ada, listed(grown)) == Imported(grown=1, messages=1)
    of = only(store, ada)
    assert [one.text for one in store.branch(ada, of)][-1] == "Thanks"
    # Who has gone on here is not moved to what was said there.
    mine = store.add(ada, of, "user", "my own", door="web")
    store.change(ada, of, title="Mine")
    grown["mapping"]["a3"] = node("a3", "q3", "assistant", "Welcome")
    grown["current_node"] = "a3"
    assert importer.take(ada, listed(grown)) == Imported(grown=1, messages=1)
    assert store.get(ada, of).head == mine.id
    assert store.get(ada, of).title == "Mine"
    assert importer.take(ben, listed(BREAD)) == Imported(made=1, messages=4)


def test_claude_with_its_thoughts_tools_and_files(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    done = importer.take(ada, listed(CLAUDE))
    assert (done.made, done.messages) == (1, 2)
    assert done.problems == (
        "'Rain': content of the unknown kind 'hologram'.",
        "'Rain': the file 'photo.png' is not in the export.",
    )
    asked, answer = store.branch(ada, only(store, ada))
    assert asked.text == "Why rain?"
    assert store.attachments.get(ada, asked.attachments[0]).text == "note"
    assert (answer.text, answer.reasoning) == ("Clouds.", "Clouds…")
    assert answer.parts == (
        {"type": "tool_call", "id": "t1", "name": "search", "arguments": '{"q": "rain"}'},
        {"type": "tool_result", "id": "t1", "name": "search", "text": "wet"},
    )
    assert importer.take(ada, listed(CLAUDE)).known == 1


def test_claude_with_branches(store: Conversations, importer: Importer, ada: Somebody) -> None:
    root = "00000000-0000-4000-8000-000000000000"
    says = [("m1", root), ("m2", "m1"), ("m3", root), ("m4", "gone")]
    messages = [
        {"uuid": name, "sender": "human", "text": name, "parent_message_uuid": parent}
        for name, parent in says
    ]
    whole = {"uuid": "u", "name": "", "chat_messages": messages, "current_leaf_message_uuid": "m2"}
    importer.take(ada, listed(whole))
    of = only(store, ada)
    assert [one.text for one in store.branch(ada, of)] == ["m1", "m2"]
    assert [one.text for one in store.tree(ada, of) if one.parent is None] == ["m1", "m3", "m4"]


def test_pictures_come_out_of_the_zip(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    parts = [
        {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-Ab1"},
        {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_missing"},
        {"content_type": "video_frame"},
        "Look.",
    ]
    content = {"content_type": "multimodal_text", "parts": parts}
    about = {"attachments": [{"id": "file-Ab1", "name": "x.png"}, {"id": "file-Bad", "name": "b"}]}
    whole = chatgpt(node("q", None, "user", content, metadata=about))
    files = {"file-Ab1-photo__png": png(4, 4), "file-Bad-b__bin": b"\0\1"}
    done = importer.take(ada, packed(whole, **files))
    assert done.problems == (
        "'Bread': content of the kind 'video_frame', which cannot be kept.",
        "'Bread': the file 'file_missing' is not in the export.",
        (
            "'Bread': 'b' is neither text (UTF-8) nor an image (PNG, JPEG, GIF, WebP). "
            "Save it as one of these and attach it again."
        ),
    )
    (said,) = store.branch(ada, only(store, ada))
    assert said.text == "Look."
    assert [store.attachments.data(ada, one) for one in said.attachments] == [png(4, 4)]
    assert len(list(store.attachments.folder.iterdir())) == 1


def test_circles_doubles_and_lost_parents_survive(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    circle = chatgpt(
        node("a", "c", "user", "A"),
        node("b", "a", "assistant", "B"),
        node("c", "b", "user", "C"),
        node("lost", "nowhere", "user", "L"),
        node("self", "self", "user", "S"),
        {"id": "x", "parent": "y", "message": None},
        {"id": "y", "parent": "x", "message": None},
        node("under", "x", "user", "U"),
    )
    done = importer.take(ada, listed(circle))
    assert done.messages == 6
    assert done.problems == (
        "'Bread': the messages around 'a' follow each other in a circle.",
        "'Bread': the messages around 'self' follow each other in a circle.",
    )
    tree = store.tree(ada, only(store, ada))
    assert {one.text for one in tree if one.parent is None} == {"A", "L", "S", "U"}


def test_nul_surrogates_nan_and_times_out_of_range_are_made_harmless(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    text = json.dumps([chatgpt(
        node("q\0", None, "user", "nul \0, half \ud83d, whole \ud83d\ude00", create_time=1e300),
        title="t\0\ud800", create_time="2025-13-99", update_time=float("nan"),
    )])  # fmt: skip
    importer.take(ada, io.BytesIO(text.encode()))
    of = store.get(ada, only(store, ada))
    assert of.title == "t\ufffd\ufffd"
    (said,) = store.branch(ada, of.id)
    assert said.text == "nul \ufffd, half \ufffd, whole 😀"
    assert importer.take(ada, io.BytesIO(text.encode())).known == 1


def test_a_long_line_of_messages(store: Conversations, importer: Importer, ada: Somebody) -> None:
    nodes = [node(f"n{n}", f"n{n - 1}" if n else None, "user", f"{n}") for n in range(5000)]
    random.Random(1).shuffle(nodes)
    importer.take(ada, listed(chatgpt(*nodes, current_node="n4999")))
    branch = store.branch(ada, only(store, ada))
    assert [one.text for one in branch] == [str(n) for n in range(5000)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The file is empty."),
        (b"  \n", "The file is empty."),
        (b"hello", "The file is no JSON list of conversations."),
        (b"[1, 2]", "The file is no JSON list of conversations."),
        (b"[]", "The file holds no conversations."),
        (b'[{"a": 1}]', "Nothing of the file could be read. Element 1 of the file is no"),
        (b'{"a": "b"', "The file ends too early. Is it whole?"),
        (b'[{"a": tru}]', "Nothing of the file could be read. Conversation 1 of the file is no"),
        (
            b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
            "Nothing of the file could be read.",
        ),
        (b"PK\x03\x04 and no more", "The zip is damaged: File is not a zip file."),
        (b"\x1f\x8b gzip", "The file is no JSON list of conversations."),
        (b"%PDF", "The file is no JSON list of conversations."),
    ],
)
def test_what_is_no_export_is_refused_in_words(
    importer: Importer, ada: Somebody, content: bytes, sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        importer.take(ada, io.BytesIO(content))
    assert str(caught.value).startswith(sentence)


def test_what_came_before_the_damage_is_kept(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    whole = json.dumps([BREAD, CLAUDE]).encode()
    done = importer.take(ada, io.BytesIO(whole[:-20]))
    assert done.made == 1
    assert done.problems == ("The file ends too early. Is it whole?",)
    broken = whole.replace(b'"Rain"', b'"Rain" oops')
    again = importer.take(ada, io.BytesIO(broken))
    assert again.known == 1
    assert again.problems[0].startswith("Conversation 2 of the file is no JSON: ")


def test_a_zip_is_not_trusted(store: Conversations, importer: Importer, ada: Somebody) -> None:
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("../../wordmill.db", b"x")
    with pytest.raises(InvalidInput, match=r"The zip holds no conversations\.json"):
        importer.take(ada, other)
    object.__setattr__(store.settings, "import_bytes", 1024 * 1024)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", b"[" + b" " * 50_000_000 + b"]")
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(InvalidInput, match="The file holds more than 1 MiB once it is unpacked"):
        importer.take(ada, bomb)
    damaged = bytearray(packed(BREAD).getvalue())
    damaged[60:70] = b"\0" * 10
    with pytest.raises(InvalidInput, match=r"The zip is damaged at 'export/conversations\.json'"):
        importer.take(ada, io.BytesIO(bytes(damaged)))
    locked = bytearray(packed(BREAD).getvalue())
    locked[6] |= 1  # the flag of a password, in the member and in the directory
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InvalidInput, match="The zip has a password"):
        importer.take(ada, io.BytesIO(bytes(locked)))


def test_pieces_of_any_size_give_the_same_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    elements = [
        {"a": 'quote " backslash \\ both \\" end\\'}, {"b": ["]", "}", {"c": "{["}]}, {},
        {"d": "ü😀", "e": [[], {}]},
    ]  # fmt: skip
    content = ("\ufeff \n" + json.dumps(elements, ensure_ascii=False, indent=1)).encode()
    for size in (1, 2, 3, 7, 1000):
        monkeypatch.setattr("wordmill.chat.archives.PIECE", size)
        assert list(Archive(io.BytesIO(content), 10_000).conversations()) == elements


def test_a_large_file_is_never_whole_in_memory(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    one = json.dumps(chatgpt(node("q", None, "user", "x" * 1_000_000))).encode()

    class Large(io.RawIOBase):
        """200 conversations of a megabyte, the same one."""

        def __init__(self) -> None:
            self.pieces: Iterator[bytes] = iter(())

        def seek(self, *_: int) -> int:
            self.pieces = (piece for n in range(200) for piece in (b"," if n else b"[", one))
            return 0

        def read(self, _: int = -1) -> bytes:
            return next(self.pieces, b"")

    tracemalloc.start()
    done = importer.take(ada, Large())  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.problems == ("The file ends too early. Is it whole?",)
    assert (done.made, done.known) == (1, 199)
    assert peak < 40_000_000


def test_progress_is_told_and_can_end_it(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    seen: list[Imported] = []

    def tell(done: Imported) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise KeyboardInterrupt

    whole = [chatgpt(node("q", None, "user", "x"), conversation_id=f"c{n}") for n in range(5)]
    with pytest.raises(KeyboardInterrupt):
        importer.take(ada, listed(*whole), tell)
    assert [one.made for one in seen] == [1, 2]
    assert importer.take(ada, listed(*whole)) == Imported(made=3, known=2, messages=3)


def test_a_hundred_problems_are_enough(importer: Importer, ada: Somebody) -> None:
    nodes = [node(f"n{n}", None, "robot", "x") for n in range(250)]
    done = importer.take(ada, listed(chatgpt(node("q", None, "user", "x"), *nodes)))
    assert len(done.problems) == 100
    assert done.problems[0] == "'Bread': a message of the unknown role 'robot'."
    assert done.problems[-1] == "And 151 more of the kind."


@pytest.mark.once
def test_no_shape_of_a_file_is_a_crash(
    store: Conversations, importer: Importer, ada: Somebody
) -> None:
    """Parts of real exports with anything in the place of anything."""
    rand = random.Random(7)
    anything: list[Any] = [
        None, True, 0, -1, 1e308, 2**70, "", "x\0", "\ud800", [], [None], {}, {"a": 1}, [[]], "q",
    ]  # fmt: skip
    own = json.loads(store.exported(ada, talk(store, ada)))

    def mutated(value: Any) -> Any:
        if rand.random() < 0.06:
            return rand.choice(anything)
        if isinstance(value, dict):
            return {key: mutated(item) for key, item in value.items() if rand.random() > 0.03}
        if isinstance(value, list):
            return [mutated(item) for item in value] * rand.choice([1, 1, 1, 2])
        return value

    taken = 0
    for number in range(150):
        whole = [mutated(one) for one in (BREAD, CLAUDE, own)]
        whole = [one for one in whole if isinstance(one, dict)]
        person = Somebody(f"person {number}")
        with suppress(InvalidInput):
            taken += importer.take(person, listed(*whole)).messages
        for one in store.all(person, archived=None).items:
            store.exported(person, one.id)
            store.branch(person, one.id)
    assert taken > 500
    assert draft("no") is None


def talk(store: Conversations, person: Somebody) -> str:
    """A conversation with all that one can have."""
    folder = store.folders.create(person, "Kitchen")
    of = store.create(
        person, folder=folder.id, tags=["t"], model="m", system="S", settings={"x": 1}
    )
    file = store.attachments.add(person, "a.txt", b"file")
    empty = store.attachments.add(person, "empty.txt", b"")
    asked = store.add(
        person, of.id, "user", "q", attachments=[file.id, empty.id], door="shell",
    )  # fmt: skip
    answer = store.add(
        person, of.id, "assistant", "", parent=asked.id, state="answering", door="web",
        sent={"temperature": 0.5},
    )  # fmt: skip
    store.finish(
        answer.id, "failed", text="a```\ncode", reasoning="r", model="m", error="it broke",
        parts=[{"type": "structured", "value": [1]}], finish="stop", usage={"input": 1},
        timing={"first": 1.5},
    )  # fmt: skip
    other = store.add(person, of.id, "assistant", "b", parent=asked.id, door="web", model="n")
    store.feedback(person, answer.id, -1, "wrong", "very")
    store.prefer(person, asked.id, other.id, [answer.id])
    store.change(person, of.id, title="Whole", document_title="Doc", pinned=True)
    return of.id


def test_our_own_export_comes_back_whole(
    store: Conversations, importer: Importer, ada: Somebody, ben: Somebody, tmp_path: Path
) -> None:
    of = talk(store, ada)
    content = store.exported(ada, of)
    path = tmp_path / "one.json"
    path.write_bytes(content)
    assert importer.take(ada, path) == Imported(known=1)
    assert importer.take(ben, path) == Imported(made=1, messages=3)
    assert importer.take(ben, path) == Imported(known=1)
    copy = only(store, ben)

    def plain(person: Somebody, name: str) -> Any:
        """The export with ids as numbers in the order of their first appearance."""
        whole = json.loads(store.exported(person, name))
        for one in whole["messages"]:
            one["origin"] = None
            one["updated"] = None
        for one in (*whole["feedback"], *whole["preferences"]):
            one.pop("created")
            one.pop("updated", None)
        whole["source"] = None
        whole["attachments"] = sorted(whole["attachments"], key=lambda one: one["name"])
        text = json.dumps(whole).replace(f'"author": "{person.id}"', '"author": "me"')
        ids = [
            one["id"]
            for one in (*whole["messages"], *whole["attachments"], whole, *whole["preferences"])
        ]
        for number, name in enumerate(ids):
            text = text.replace(name, f"id {number}")
        return json.loads(text)

    assert plain(ben, copy) == plain(ada, of)
    assert store.folders.all(ben)[0].name == "Kitchen"


def test_all_of_a_person_in_one_file(
    store: Conversations, importer: Importer, ada: Somebody, ben: Somebody
) -> None:
    assert json.loads(b"".join(store.exported_all(ada))) == []
    talk(store, ada)
    archived = store.create(ada)
    store.change(ada, archived.id, archived=True)
    store.create(ada, temporary=True)
    whole = b"".join(store.exported_all(ada))
    assert [one["title"] for one in json.loads(whole)] == ["", "Whole"]
    assert importer.take(ben, io.BytesIO(whole)).made == 2


def test_files_beyond_what_a_file_holds_are_named_only(
    store: Conversations, importer: Importer, ada: Somebody, ben: Somebody,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    of = talk(store, ada)
    monkeypatch.setattr("wordmill.chat.conversations.MOST_EXPORTED", 3)
    whole = json.loads(store.exported(ada, of))
    assert whole["attachments"][0]["data"] is None
    done = importer.take(ben, listed(whole))
    assert "'Whole': the file 'a.txt' is not in the export." in done.problems


def test_markdown_is_the_branch_to_be_read(store: Conversations, ada: Somebody) -> None:
    of = talk(store, ada)
    first = store.children(ada, store.branch(ada, of)[0].id)[0]
    store.switch(ada, first.id)
    store.change(ada, of, document_title="Do*c\n#1")
    date = f"{store.get(ada, of).created:%Y-%m-%d}"
    assert store.exported(ada, of, "markdown", reasoning=True).decode() == (
        f"# Do\\*c \\#1\n\n*{date}*\n\n## System\n\nS\n\n## You\n\n"
        "*Attached: a.txt (text/plain)*\n\n*Attached: empty.txt (text/plain)*\n\nq\n\n## m\n\n"
        "<details><summary>Reasoning</summary>\n\nr\n\n</details>\n\n"
        "a```\ncode\n\n*failed: it broke*\n"
    )
    assert b"Reasoning" not in store.exported(ada, of, "markdown")
    store.add(ada, of, "assistant", "```py\nleft open", door="web")
    store.add(ada, of, "user", "next", door="web")
    assert b"```py\nleft open\n```\n\n## You\n\nnext\n" in store.exported(ada, of, "markdown")
    with pytest.raises(InvalidInput, match="form: 'pdf' is neither json nor markdown"):
        store.exported(ada, of, "pdf")  # type: ignore[arg-type]

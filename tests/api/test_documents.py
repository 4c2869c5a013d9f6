"""Documents over HTTP."""

import io

import docx

from tests.api.conftest import Server
from tests.documents.reading import read


def test_a_document_of_a_conversation_and_how_it_looks(server: Server) -> None:
    house, bob = server.house, server.people["bob"]
    conversation = house.conversations.create(bob, title="../../mills").id
    for number in ("first", "second"):
        house.conversations.add(bob, conversation, "user", f"The {number}?", door="api")
        house.conversations.add(bob, conversation, "assistant", f"# {number}", door="api")
    path = f"/api/conversations/{conversation}/document"
    with server.client("bob") as client:
        last = client.get(path)
        assert last.headers["content-disposition"] == "attachment; filename*=utf-8''mills.docx"
        assert read(last.content).headings == [(1, "second")]
        both = read(client.get(path, params={"n": 2, "m": 1}).content)
        assert both.headings == [(1, "first"), (1, "second")]
        whole = client.get(path, params={"whole": True, "form": "markdown"})
        assert whole.text.startswith("# ../../mills")
        assert client.get(path, params={"n": 0}).status_code == 422
        assert client.get(path, params={"form": "exe"}).status_code == 422
        refused = client.get(path, params={"n": 9})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")

        assert client.patch("/api/me/documents", json={"speakers": True}).json()["speakers"]
        assert len(read(client.get(path).content).headings) == 3
        assert client.patch("/api/me/documents", json={"speaker": True}).status_code == 422

        word, sink = docx.Document(), io.BytesIO()
        word.styles["Title"].font.name = "Letterhead"
        word.save(sink)
        template = "/api/me/documents/template"
        bad = client.put(template, files={"file": b"no"})
        assert bad.status_code == 400
        assert client.put(template, files={"file": sink.getvalue()}).status_code == 204
        assert client.get("/api/me/documents").json()["template"]
        made = docx.Document(io.BytesIO(client.get(path).content))
        assert made.styles["Title"].font.name == "Letterhead"
        assert client.delete(template).status_code == 204
        assert client.delete(template).status_code == 404

        nowhere = client.post(path, json={})
        assert nowhere.status_code == 409
        assert "is not connected to Google Drive" in nowhere.json()["error"]["message"]
        assert client.delete("/api/me/drive").status_code == 404

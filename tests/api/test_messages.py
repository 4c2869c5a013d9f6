"""Answers over HTTP: watched, taken up again, said once; links that anybody may open."""

import json

from tests.api.conftest import Server


def test_events_are_taken_up_where_they_stopped(server: Server) -> None:
    bob, house = server.people["bob"], server.house
    with server.client("bob") as client:
        kept = client.post("/api/conversations", json={"model": "rehearsal"}).json()["id"]
        path = f"/api/conversations/{kept}/messages"
        once = {"idempotency-key": "one"}
        turn = client.post(path, json={"text": "Hello"}, headers=once).json()
        assert client.post(path, json={"text": "Hello"}, headers=once).json() == turn
        answer = turn["answers"][0]
        whole = client.get(f"/api/messages/{answer}/events").text
        events = [json.loads(line[6:]) for line in whole.splitlines() if line.startswith("data: ")]
        text = house.conversations.message(bob, answer).text
        assert "".join(event["text"] for event in events) == text
        assert events[-1]["state"] == "done"
        last = {"last-event-id": f"10,0,{answer}"}
        rest = client.get(f"/api/messages/{answer}/events", headers=last).text
        found = [json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: ")]
        assert "".join(event["text"] for event in found) == text[10:]
        assert f"id: {len(text)},0,{answer}" in rest
    with server.client("cem") as client:  # an id of somebody else's in the header opens nothing
        kept = client.post("/api/conversations", json={"model": "rehearsal"}).json()["id"]
        own = client.post(f"/api/conversations/{kept}/messages", json={"text": "x"}).json()
        stolen = client.get(f"/api/messages/{own['answers'][0]}/events", headers=last)
        assert stolen.status_code == 404


def test_a_link_is_open_to_anybody_until_it_is_taken_back(server: Server) -> None:
    bob, house = server.people["bob"], server.house
    kept = house.conversations.create(bob, model="rehearsal", system="A secret prompt.")
    file = house.conversations.attachments.add(bob, "note.txt", b"words", "text/plain")
    turn = house.chat.send(bob, kept.id, "Look", attachments=[file.id], door="web")
    for _ in house.chat.watch(bob, turn.answer):
        pass
    with server.client("bob") as client:
        share = client.post(f"/api/conversations/{kept.id}/share").json()
    token = share["path"].rpartition("/")[2]
    with server.client(None) as anybody:
        found = anybody.get(f"/api/shared/{token}")
        assert [message["role"] for message in found.json()["messages"]] == ["user", "assistant"]
        assert "A secret prompt" not in found.text
        assert bob.id not in found.text
        data = anybody.get(f"/api/shared/{token}/attachments/{file.id}")
        assert (data.content, data.headers["content-security-policy"]) == (b"words", "sandbox")
        assert anybody.get(f"/api/shared/{token}/attachments/{kept.id}").status_code == 404
    with server.client("bob") as client:
        assert client.delete(f"/api/shares/{share['id']}").status_code == 204
    with server.client(None) as anybody:
        assert anybody.get(f"/api/shared/{token}").status_code == 404


def test_a_password_and_sign_ins_are_ones_own(server: Server) -> None:
    sign_in = server.house.accounts.sessions.sign_in
    token = sign_in("bob@example.org", "correct horse battery staple")
    cookie = {"cookie": f"wordmill={token}", "x-wordmill": "1"}
    with server.client(None) as client:
        new = {"password": "another long sentence", "current": "wrong"}
        assert client.put("/api/me/password", json=new, headers=cookie).status_code == 401
        sign_in("bob@example.org", "correct horse battery staple")
        assert len(client.get("/api/me/sessions", headers=cookie).json()) == 2
        new["current"] = "correct horse battery staple"
        assert client.put("/api/me/password", json=new, headers=cookie).status_code == 204
        assert len(client.get("/api/me/sessions", headers=cookie).json()) == 1
    assert sign_in("bob@example.org", "another long sentence")

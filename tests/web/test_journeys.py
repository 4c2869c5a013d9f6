"""What people do in the workbench, in a real browser. Pictures: build/screenshots."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from tests.servers.talking import Talking
from tests.web.bench import ADMIN, PAGES, PASSWORD, Bench
from tests.web.conftest import Server, served

pytestmark = pytest.mark.once

Opened = Callable[..., Bench]


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_the_first_admin_comes_by_the_code_of_the_log(opened: Opened, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        one = opened(url=server.url)
        one.page.goto(server.first_link)
        one.page.fill("#name", "Ann")
        one.page.fill("#email", ADMIN)
        one.page.fill("#password", PASSWORD)
        one.page.click("button[type=submit]")
        expect(one.page.get_by_text("Only the rehearsal model is here")).to_be_visible()
        one.picture("first-start")
        one.say("Tell me about rivers.")
        expect(one.button("Again", one.answer(1))).to_be_visible()
        assert len(one.answer(1).inner_text()) > 20
        one.picture("first-answer")

        again = httpx.get(server.first_link)
        assert again.headers["location"] == "/login"


def test_in_and_out(opened: Opened) -> None:
    one = opened()
    one.page.goto(one.url + "/models")
    assert one.page.url == f"{one.url}/login?next=/models"
    one.page.fill("#email", ADMIN)
    one.page.fill("#password", "wrong")
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_role("alert")).to_be_visible()
    one.page.fill("#password", PASSWORD)
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_role("heading", name="Models")).to_be_visible()
    assert one.page.url == f"{one.url}/models"
    cookie = next(each for each in one.page.context.cookies() if each["name"] == "wordmill")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"

    # A picture of that address, which a model may have written, signs nobody out.
    one.page.evaluate(
        "new Promise(done => Object.assign(new Image(), {onload: done, onerror: done,"
        " src: '/logout'}))"
    )
    one.go("/models")
    assert one.page.url == f"{one.url}/models"
    one.page.goto(one.url + "/logout")
    one.page.goto(one.url + "/settings")
    assert one.page.url.startswith(f"{one.url}/login")


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_never_leads_elsewhere(server: Server, back: str) -> None:
    form = {"email": ADMIN, "password": PASSWORD}
    answer = httpx.post(f"{server.url}/login", data={**form, "next": back})
    assert answer.headers["location"] == "/"
    page = httpx.get(f"{server.url}/login", params={"next": back}).text
    assert 'name="next" value="/"' in page


def test_talk_streams_and_survives_a_reload(bench: Bench) -> None:
    bench.say("slow, please")
    expect(bench.answer(1)).to_contain_text("one two")
    expect(bench.answer(1)).not_to_contain_text("twelve")
    bench.page.reload()
    expect(bench.answer(0)).to_contain_text("slow, please")
    expect(bench.answer(1)).to_contain_text("eleven twelve")
    expect(bench.button("Again", bench.answer(1))).to_be_visible()
    expect(bench.answer(1)).to_contain_text("one two three four five six seven eight nine ten")


def test_stopping_keeps_what_had_come(bench: Bench, talk: Talking) -> None:
    gone = talk.hung_up
    bench.say("long and stopped")
    expect(bench.answer(1)).to_contain_text("one two")
    bench.button("Stop", bench.answer(1)).click()
    expect(bench.answer(1)).to_contain_text("Stopped; what had come is kept.")
    expect(bench.answer(1)).to_contain_text("one two")
    expect(bench.answer(1)).not_to_contain_text("twelve one two three four five six seven")
    bench.page.reload()
    expect(bench.answer(1)).to_contain_text("one two")
    expect(bench.button("Continue", bench.answer(1))).to_be_visible()
    assert talk.hung_up > gone


def test_a_model_that_says_nothing_can_be_stopped(bench: Bench) -> None:
    bench.say("silent, please")
    expect(bench.answer(1)).to_contain_text("Thinking")
    bench.button("Stop", bench.answer(1)).click()
    expect(bench.answer(1)).to_contain_text("Stopped", timeout=15_000)  # long before it speaks


def test_what_is_sent_meanwhile_waits_in_sight(bench: Bench) -> None:
    bench.say("long at first")
    expect(bench.answer(1)).to_contain_text("one two")
    bench.say("pears")
    expect(bench.answer(2)).to_contain_text("pears")
    expect(bench.answer(3)).to_contain_text("Waiting for the answer before it.")
    bench.page.reload()
    expect(bench.box).to_be_visible()  # there is something to write in while an answer grows
    bench.picture("waits-in-sight")
    bench.button("Stop", bench.answer(1)).click()
    expect(bench.answer(3)).to_contain_text("You said pears.")


def test_reasoning_is_folded(bench: Bench) -> None:
    bench.say("think of mills")
    expect(bench.answer(1)).to_contain_text("Mills.")
    expect(bench.button("Again", bench.answer(1))).to_be_visible()
    thought = bench.answer(1).get_by_text("It is about mills.")
    expect(thought).to_be_hidden()
    bench.answer(1).get_by_text("Reasoning").click()
    expect(thought).to_be_visible()


def test_a_link_is_given_out_and_taken_back(bench: Bench, opened: Opened) -> None:
    bench.say("say: **bold** ![picture](http://127.0.0.1:9/x) <b>tag</b>")
    expect(bench.button("Again", bench.answer(1))).to_be_visible()
    drawer = bench.drawer()
    drawer.get_by_role("tab", name="Share and export").click()
    bench.button("Make a read-only link", drawer).click()
    address = drawer.get_by_test_id("stCode").inner_text().strip()
    assert address.startswith(f"{bench.url}/shared/")
    reader = opened().page
    reader.goto(address)
    expect(reader.locator("strong").last).to_have_text("bold")
    expect(reader.locator("img, .said b:not(:first-child)")).to_have_count(0)
    expect(reader.get_by_text("<b>tag</b>").first).to_be_visible()
    bench.page.get_by_test_id("stCode").wait_for()
    drawer.get_by_role("button", name=re.compile("Take back the link")).click()
    expect(drawer.get_by_role("button", name=re.compile("Take back the link"))).to_have_count(0)
    reader.reload()
    expect(reader.get_by_text("This link leads nowhere")).to_be_visible()


def test_an_export_of_chatgpt_is_imported_once(bench: Bench) -> None:
    words = {"content_type": "text", "parts": ["Hello from there."]}
    message = {"id": "b", "author": {"role": "user"}, "create_time": 1.7e9, "content": words}
    nodes = {
        "a": {"id": "a", "message": None, "parent": None, "children": ["b"]},
        "b": {"id": "b", "message": message, "parent": "a", "children": []},
    }
    export = [{
        "id": "x", "title": "From elsewhere", "create_time": 1.7e9, "update_time": 1.7e9,
        "mapping": nodes, "current_node": "b",
    }]  # fmt: skip
    for line in ("1 conversations are new", "1 were known"):
        bench.button("Import and export", bench.beside).click()
        box = bench.page.get_by_role("dialog")
        file = {"name": "c.json", "mimeType": "application/json", "buffer": _bytes(export)}
        box.locator("input[type=file]").set_input_files(file)
        bench.press(bench.button("Import", box), box.get_by_test_id("stAlert"))
        expect(box.get_by_test_id("stAlert")).to_contain_text(line)
        box.get_by_role("button", name="Close").click()
        expect(box).to_be_hidden()
    bench.beside.get_by_role("link", name=re.compile("From elsewhere")).click()
    expect(bench.answer(0)).to_contain_text("Hello from there.")


def test_an_edit_is_a_branch_and_the_old_one_stays(bench: Bench) -> None:
    bench.say("apples")
    expect(bench.answer(1)).to_contain_text("You said apples.")
    bench.button("Edit", bench.answer(0)).click()
    bench.chosen("Your message").fill("pears")
    bench.button("Send again").click()
    expect(bench.answer(1)).to_contain_text("You said pears.")
    expect(bench.answer(0)).to_contain_text("2/2")
    bench.button("Before", bench.answer(0)).click()
    expect(bench.answer(1)).to_contain_text("You said apples.")
    expect(bench.answer(0)).to_contain_text("1/2")


def test_two_models_answer_and_one_is_better(bench: Bench) -> None:
    bench.page.get_by_role("combobox", name="Compare with").click()
    bench.page.get_by_role("option", name="rehearsal").click()
    bench.page.keyboard.press("Escape")
    bench.idle()
    bench.say("plums")
    better = bench.button("This one is better")
    expect(better).to_have_count(2)
    expect(bench.answer(1)).to_contain_text("You said plums.")
    better.first.click()
    expect(bench.page.get_by_text("Chosen as the better one")).to_be_visible()
    expect(better).to_have_count(1)


def rehearsed(bench: Bench) -> None:
    """Choose the rehearsal model on the page Generate."""
    model = bench.page.get_by_role("option", name="rehearsal")
    for _ in range(5):  # a click is lost while the page is drawn anew
        bench.idle()
        with suppress(PlaywrightError):  # or the box is there twice for a moment
            bench.page.get_by_role("combobox", name=re.compile("Model")).click()
            model.click(timeout=5_000)
            bench.idle()
            return
    raise AssertionError("The model cannot be chosen.")


def test_a_run_is_started_and_looked_at(bench: Bench) -> None:
    bench.go("/generate")
    bench.chosen("Number of scenarios").fill("3")
    bench.chosen("Number of scenarios").press("Tab")
    rehearsed(bench)
    bench.button("Start").click()
    expect(bench.page.get_by_text("finished")).to_be_visible(timeout=30_000)
    expect(bench.page.get_by_text("3 of 3 rows")).to_be_visible()

    bench.go("/explore")
    expect(bench.page.get_by_text("3 of 3 rows")).to_be_visible()
    expect(bench.page.get_by_text("answers of the rehearsal model")).to_be_visible()
    bench.page.get_by_role("tab", name="One row").click()
    expect(bench.page.get_by_text("Where it came from")).to_be_visible()


def test_scenarios_without_actions_are_picked(bench: Bench) -> None:
    bench.go("/generate")
    for label, number in (("Number of scenarios", "4"), ("Actions", "0")):
        bench.chosen(label).first.fill(number)
        bench.chosen(label).first.press("Tab")
        bench.idle()
    rehearsed(bench)
    bench.button("Start").click()
    expect(bench.page.get_by_text("4 of 4 rows").first).to_be_visible(timeout=30_000)
    bench.page.reload()
    rehearsed(bench)
    bench.idle()
    bench.page.get_by_role("combobox", name=re.compile("of an earlier run")).click()
    bench.page.get_by_role("option", name=re.compile("4 rows")).first.click()
    bench.idle()
    ticks = bench.page.get_by_test_id("stDataFrame").locator("canvas").first
    ticks.evaluate("one => one.scrollIntoView({block: 'center'})")
    for line in (1, 3):  # a canvas: a head, then lines of 35 px with a tick at their left
        ticks.click(position={"x": 15, "y": 35 * (line + 1) + 17}, force=True)
        bench.idle()
    expect(bench.page.get_by_text("2 of 4 scenarios are picked.")).to_be_visible()
    bench.picture("picked")
    expect(bench.chosen("Number of scenarios").first).to_have_value("2")
    bench.button("Start").click()
    expect(bench.page.get_by_text("2 of 2 rows").first).to_be_visible(timeout=30_000)


def test_a_batch_says_how_answers_must_look(bench: Bench, tmp_path: Path) -> None:
    body = {"model": "rehearsal", "messages": [{"role": "user", "content": "otter"}]}
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"custom_id": "one", "body": body}) + "\n")
    bench.go("/batches")
    bench.idle()
    bench.page.locator("input[type=file]").set_input_files(file)
    expect(bench.button("Send").first).to_be_enabled()  # two of them while it is drawn anew
    bench.idle()
    form = bench.page.get_by_role("textbox", name="How answers must look")
    fold = bench.page.get_by_test_id("stExpander").locator("summary")
    for _ in range(5):  # a click is lost while the page is drawn anew
        fold.click()
        with suppress(PlaywrightError):
            form.wait_for(state="visible", timeout=3_000)
            break
    form.fill("{no JSON")
    form.press("Control+Enter")
    bench.idle()
    bench.button("Send").click()
    expect(bench.page.get_by_text("How answers must look is no JSON")).to_be_visible()
    bench.picture("batch-more")
    form.fill('{"pattern": "(?s).+", "tries": 2}')
    form.press("Control+Enter")
    bench.idle()
    bench.button("Send").click()
    expect(bench.page.get_by_text("Half within")).to_be_visible(timeout=60_000)
    bench.idle()
    bench.page.get_by_role("tab", name="Files").click()
    expect(bench.page.get_by_text("Answers, ")).to_be_visible()


def test_a_batch_is_sent_watched_and_looked_at(bench: Bench, tmp_path: Path) -> None:
    lines = [
        {
            "custom_id": f"r{n}",
            "body": {"model": "rehearsal", "messages": [{"role": "user", "content": f"otter {n}"}]},
        }
        for n in range(1200)
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no request\n")
    bench.go("/batches")
    bench.page.locator("input[type=file]").set_input_files(file)
    bench.idle()
    bench.button("Send").click()
    expect(bench.page.get_by_text("invalid_json")).to_be_visible(timeout=60_000)
    expect(bench.page.get_by_text("1,200").first).to_be_visible()
    bench.picture("batch-counts")
    bench.page.get_by_text("What happened").click()
    expect(bench.page.get_by_test_id("stExpander").get_by_test_id("stDataFrame")).to_be_visible()
    bench.page.get_by_role("tab", name="Results").click()
    bench.chosen("Words in the request or the answer").fill("otter 77")
    bench.chosen("Words in the request or the answer").press("Enter")
    expect(bench.page.get_by_text("78 · r77")).to_be_visible()
    bench.picture("batch-results")
    bench.page.get_by_role("tab", name="Files").click()
    expect(bench.page.get_by_text("Answers, ")).to_be_visible()


def test_a_revoked_session_ends_at_the_next_click(opened: Opened) -> None:
    here = opened()
    here.sign_in()
    expect(here.box).to_be_visible()
    there = opened(storage_state=here.page.context.storage_state())
    there.page.goto(there.url + "/logout")
    here.link("New conversation").click()
    expect(here.page.get_by_text("You are no longer signed in.")).to_be_visible()
    expect(here.box).to_have_count(0)


def test_by_keys_alone(opened: Opened) -> None:
    one = opened()
    keys = one.page.keyboard
    one.page.goto(one.url + "/login")
    expect(one.page.locator("#email")).to_be_focused()  # the first field, by itself
    keys.type(ADMIN)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    expect(one.box).to_be_visible()
    one.idle()

    def tab_to(found: str, most: int = 60) -> None:
        for _ in range(most):
            keys.press("Tab")
            if one.page.evaluate(f"document.activeElement.matches({found!r})"):
                return
        raise AssertionError(f"{most} times Tab did not reach {found}")

    tab_to("[data-testid=stChatInputTextArea]")
    keys.type("typed")
    keys.press("Enter")
    expect(one.answer(1)).to_contain_text("You said typed.")
    expect(one.button("Again", one.answer(1))).to_be_visible()
    tab_to("[data-testid=stChatMessage] [data-testid=stPopover] button")
    keys.press("Enter")
    expect(one.chosen("Your message")).to_be_visible()
    keys.press("Escape")
    expect(one.chosen("Your message")).to_be_hidden()
    tab_to("a[href$=models]")
    keys.press("Enter")
    expect(one.page.get_by_role("heading", name="Models")).to_be_visible()


def test_a_telephone_is_wide_enough(opened: Opened, signed_in: Any) -> None:
    one = opened(storage_state=signed_in, viewport={"width": 390, "height": 844}, has_touch=True)
    for path in PAGES:
        one.go(f"/{path}")
        one.picture(f"telephone-{path or 'chat'}")
        assert one.too_wide == 0, path
    for path in ("login", "shared/nothing"):
        one.page.goto(f"{one.url}/{path}")
        one.picture(f"telephone-{path.partition('/')[0]}")
        assert one.too_wide == 0, path


def test_on_a_telephone_the_list_gives_way_to_what_was_chosen(
    opened: Opened, signed_in: Any
) -> None:
    one = opened(storage_state=signed_in, viewport={"width": 390, "height": 844}, has_touch=True)
    one.go("/")
    one.say("a mill by the sea")
    expect(one.button("Again", one.answer(1))).to_be_visible()
    one.open_beside()
    one.picture("telephone-list")
    one.link("New conversation").click()
    expect(one.page.get_by_role("heading", name="What shall we talk about?")).to_be_in_viewport()
    expect(one.beside).not_to_be_in_viewport()
    one.open_beside()
    one.beside.get_by_role("link", name=re.compile("a mill by the sea|A short title")).first.click()
    expect(one.answer(1)).to_be_visible()
    expect(one.beside).not_to_be_in_viewport()
    one.drawer()
    one.picture("telephone-drawer")
    assert one.too_wide == 0


def test_long_words_and_wide_tables_stay_in_the_window(opened: Opened, signed_in: Any) -> None:
    one = opened(storage_state=signed_in, viewport={"width": 390, "height": 844}, has_touch=True)
    one.go("/")
    one.say("say: " + "a" * 300 + "\n\n|" + "column|" * 12 + "\n|" + "-|" * 12)
    expect(one.button("Again", one.answer(1))).to_be_visible()
    expect(one.answer(1).get_by_role("table")).to_be_visible()
    assert one.too_wide == 0


def test_a_file_without_the_pages_own_token_is_refused(server: Server, signed_in: Any) -> None:
    cookies = {one["name"]: one["value"] for one in signed_in["cookies"]}
    url = f"{server.url}/_stcore/upload_file/a/b"
    bare = {"wordmill": cookies["wordmill"]}
    files = {"file": ("x.txt", b"x")}
    assert httpx.put(url, cookies=bare, files=files).status_code == 403
    assert httpx.put(url, files=files).status_code == 303


def test_the_pages_in_the_dark(opened: Opened, signed_in: Any) -> None:
    one = opened(storage_state=signed_in, color_scheme="dark")
    for path in PAGES:
        one.go(f"/{path}")
        one.picture(f"dark-{path or 'chat'}")
        expect(one.page.get_by_test_id("stException")).to_have_count(0)
        dark = "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
        red, green, blue = map(int, re.findall(r"\d+", one.page.evaluate(dark))[:3])
        assert max(red, green, blue) < 60, path


def test_in_the_browsers_language(opened: Opened) -> None:
    one = opened(locale="de-AT")
    one.page.goto(one.url + "/login")
    expect(one.page.get_by_role("heading", name="Anmelden")).to_be_visible()
    one.sign_in()
    expect(one.link("Neues Gespräch")).to_be_visible()
    expect(one.page.get_by_role("link", name="Einstellungen").first).to_be_visible()


def test_what_a_model_says_neither_runs_nor_loads(
    bench: Bench, elsewhere: tuple[str, list[str]]
) -> None:
    address, asked = elsewhere
    bench.say(
        f"say: <script>window.hurt = 1</script> <img src={address}/html onerror='window.hurt = 1'> "
        f"![picture]({address}/markdown?secret=1) [link](javascript:window.hurt=1) "
        f"![by name][there] <iframe src={address}/frame></iframe> <b>bold</b>"
        f"\n\n[there]: {address}/reference"
    )
    expect(bench.button("Again", bench.answer(1))).to_be_visible()
    expect(bench.answer(1)).to_contain_text("<script>window.hurt = 1</script>")
    assert bench.page.evaluate("window.hurt === undefined")
    drawn = bench.answer(1).get_by_test_id("stMarkdownContainer")
    for tag in ("script", "img", "iframe", "b", "a[href^='javascript:']"):
        expect(drawn.locator(tag)).to_have_count(0)
    assert asked == []

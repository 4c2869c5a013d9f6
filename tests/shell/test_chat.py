"""A sitting at a terminal, as a person has it."""

import stat
import time

import pytest

pytestmark = pytest.mark.once

CTRL_C, CTRL_D, CTRL_R, ALT_ENTER, ENTER, TAB = "\x03", "\x04", "\x12", "\x1b\r", "\r", "\t"


def words(body):
    """A long answer, a word at a time."""
    for number in range(2000):
        yield f"word{number} "
        yield 0.02


def test_a_question_its_answer_and_good_bye(sit, model):
    terminal = sit(columns=60)
    assert "Talking with mock as local." in terminal.lines()
    terminal.type("How are you?" + ENTER)
    terminal.wait("You said: How are you?")
    terminal.wait("tokens in")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    assert terminal.lines() == [
        "Talking with mock as local.",
        "",
        "> How are you?",
        "",
        "You said: How are you?",
        "",
        "Bye.",
    ]


def test_ctrl_c_stops_the_answer_and_keeps_what_there_is(sit, model):
    model.say = words
    terminal = sit()
    terminal.type("Go on" + ENTER)
    terminal.wait("word5 ")
    terminal.type(CTRL_C)
    terminal.wait("Stopped. /continue goes on with it, /retry asks again.")
    end = time.monotonic() + 10
    while not model.hung_up and time.monotonic() < end:
        time.sleep(0.02)
    assert model.hung_up == 1, "the model's server still sends"
    partial = next(line for line in terminal.lines() if line.startswith("word0"))
    # It is kept: the next question goes with it, and so does the shell that is opened next.
    model.say = lambda body: ["Fine."]
    terminal.type("And?" + ENTER)
    terminal.wait("Fine.")
    said = next(body for body in reversed(model.asked) if body["messages"][-1]["content"] == "And?")
    assert said["messages"][1]["content"].startswith(partial.strip()[:40])
    terminal.type(CTRL_D)
    assert terminal.ended() == 0


def test_ctrl_c_twice_during_an_answer_leaves(sit, model):
    model.say = words
    terminal = sit()
    terminal.type("Go on" + ENTER)
    terminal.wait("word3 ")
    terminal.type(CTRL_C)
    time.sleep(0.2)
    terminal.type(CTRL_C)
    assert terminal.ended() == 0
    assert terminal.lines()[-1] == "Bye."


def test_ctrl_c_on_the_line_empties_it_and_twice_leaves(sit, model):
    terminal = sit()
    terminal.type("not this")
    terminal.wait("> not this")
    terminal.type(CTRL_C)
    terminal.until(lambda text: "not this" not in text, "an empty line")
    terminal.type(CTRL_C)
    terminal.wait("Ctrl-C again leaves, and so does Ctrl-D.")
    terminal.type("yes?" + ENTER)
    terminal.wait("You said: yes?")
    terminal.wait("tokens in")
    terminal.type(CTRL_C)
    terminal.wait("Ctrl-C again leaves", count=2)
    terminal.type(CTRL_C)
    assert terminal.ended() == 0
    assert len(model.questions) >= 1
    assert "not this" not in model.questions


def test_what_is_pasted_arrives_whole(sit, model):
    lines = [
        "def f():",
        "\treturn {",
        *(f"/models --x {n}  <b> \\n é 漢字" for n in range(197)),
        "\t}",
    ]
    text = "\n".join(lines)
    terminal = sit(rows=20)
    terminal.paste(text)
    terminal.wait("--x 196")
    assert model.asked == [], "a line was sent before the person pressed Enter"
    terminal.type(ENTER)
    terminal.wait("… 188 more lines")
    terminal.wait("tokens in")
    assert model.questions[0] == text


@pytest.mark.parametrize("word", ["/quit", "--exit", "exit", "Quit"])
def test_words_that_leave(sit, model, word):
    terminal = sit()
    terminal.type(word + ENTER)
    assert terminal.ended() == 0
    assert model.asked == []


def test_alt_enter_begins_a_line(sit, model):
    terminal = sit()
    terminal.type("one" + ALT_ENTER + "two")
    terminal.wait("  two")
    terminal.type(ENTER)
    terminal.wait("You said: one")
    assert model.questions[0] == "one\ntwo"


def test_history_is_kept_per_person_and_searched_backwards(sit, home):
    terminal = sit()
    for text in ("the first message", "the second message"):
        terminal.type(text + ENTER)
        terminal.wait(f"You said: {text}")
        terminal.wait("tokens in")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    kept = home / "history" / "local"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    again = sit()
    again.type(CTRL_R + "first")
    again.wait("> the first message")
    again.type(ENTER)
    again.type(ENTER)
    again.wait("You said: the first message")
    again.wait("tokens in")
    again.type("\x1b[A\x1b[A")
    again.wait("> the second message")


def test_nothing_is_kept_of_a_temporary_conversation(sit, home, ask):
    terminal = sit("--temporary")
    assert "Talking with mock as local. Nothing is kept of it." in terminal.lines()
    terminal.type("a secret" + ENTER)
    terminal.wait("You said: a secret")
    terminal.wait("tokens in")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    assert not (home / "history").exists()
    found = ask("-c", "hello")
    assert found.returncode == 2
    assert found.stderr.decode() == (
        "error: There is no conversation yet that could be gone on with.\n"
    )


def test_the_last_conversation_is_gone_on_with(sit, model):
    terminal = sit()
    terminal.type("My name is Ada." + ENTER)
    terminal.wait("You said: My name is Ada.")
    terminal.wait("tokens in")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    again = sit("-c")
    again.wait("You said: My name is Ada.")
    assert "> My name is Ada." in again.lines()
    again.type("What is my name?" + ENTER)
    again.wait("You said: What is my name?")
    asked = next(
        body for body in model.asked if body["messages"][-1]["content"] == "What is my name?"
    )
    assert [one["content"] for one in asked["messages"]] == [
        "My name is Ada.",
        "You said: My name is Ada.",
        "What is my name?",
    ]


def test_commands_models_and_files_are_completed(sit, tmp_path, model):
    (tmp_path / "notes.txt").write_text("Buy milk.")
    terminal = sit()
    terminal.type("/swap")
    terminal.wait("/swap-model  Let another model")
    terminal.type(TAB)
    terminal.wait("> /swap-model")
    terminal.type(" reh")
    terminal.wait("rehearsal  rehearsal at rehearsal")
    terminal.type(TAB)
    terminal.wait("> /swap-model rehearsal")
    terminal.type(CTRL_C)
    terminal.type("/attach not")
    terminal.wait("notes.txt")
    terminal.type(TAB)
    terminal.wait("> /attach notes.txt")
    terminal.type(ENTER)
    terminal.wait("With the next message: notes.txt.")
    terminal.wait("1 file attached")
    terminal.type("What must I do?" + ENTER)
    terminal.wait("tokens in")
    assert "Buy milk." in model.questions[0]
    assert "What must I do?" in model.questions[0]


def test_a_command_that_is_wrong_comes_back_to_be_mended(sit, model):
    terminal = sit(columns=100)
    terminal.type("/modles" + ENTER)
    terminal.wait("error: There is no command 'modles'. Did you mean 'models'")
    terminal.wait("> /modles", count=2)
    terminal.type("\x7f\x7f\x7fels" + ENTER)
    terminal.wait("mock: mock-1 at")
    terminal.type("/attach nothing.txt" + ENTER)
    terminal.wait("error: nothing.txt does not exist.")
    terminal.type(" /models" + ENTER)
    terminal.wait("You said:  /models")


def test_plain_language_is_proposed_and_runs_after_a_yes(sit, model):
    def answer(body):
        if "response_format" in body:
            return ['{"command": "set-input-buffer-size", "arguments": ["10"]}']
        return ["As you say."]

    model.say = answer
    terminal = sit()
    terminal.type("use only the last ten messages" + ENTER)
    terminal.wait("[y/N]")
    assert "Shall I do this: /set-input-buffer-size 10?" in " ".join(terminal.text.split())
    terminal.type("y" + ENTER)
    terminal.wait("A model gets the last 10 messages, if they fit.")
    terminal.type("use only the last ten messages" + ENTER)
    terminal.wait("[y/N]", count=2)
    terminal.type("n" + ENTER)
    terminal.wait("As you say.")


def test_the_editor_writes_the_next_message(sit, tmp_path, model):
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nprintf "and more\\nof it\\n" >> "$1"\n')
    editor.chmod(0o755)
    terminal = sit(environment={"EDITOR": str(editor)})
    terminal.type("/editor A beginning" + ENTER)
    terminal.wait("  of it")
    terminal.type(ENTER)
    terminal.wait("tokens in")
    assert model.questions[0] == "A beginning\nand more\nof it" or model.questions[0] == (
        "A beginningand more\nof it"
    )


def test_reasoning_is_folded(sit, model):
    def thinks(body):
        yield {"reasoning_content": "Let me see.\nSix times seven."}
        yield 1.5
        yield "It is **42**."

    model.say = thinks
    terminal = sit()
    terminal.type("What is it?" + ENTER)
    terminal.wait("thinking: Six times seven.")
    terminal.wait("It is 42.")
    terminal.until(lambda text: "thinking:" not in text, "folded reasoning")
    assert any(line.startswith("thought for ") for line in terminal.lines())
    terminal.wait("tokens in")
    terminal.type("/thoughts" + ENTER)
    terminal.wait("Six times seven.")


def test_what_is_typed_during_an_answer_waits(sit, model):
    def slowly(body):
        yield "One moment."
        yield 1.0
        yield " Done."

    model.say = slowly
    terminal = sit()
    terminal.type("Go" + ENTER)
    terminal.wait("One moment.")
    terminal.type("the next one")
    time.sleep(0.3)
    assert "the next one" not in terminal.text
    terminal.wait("> the next one")
    assert "One moment. Done." in terminal.text


def test_a_narrow_window(sit, model):
    model.say = lambda body: [
        "# A long heading of it\n\n| name | value |\n|---|---|\n| a | 1 |\n\n- one\n- two, longer\n"
    ]
    terminal = sit(columns=20, rows=10, ready="> ".strip())
    terminal.type("hi" + ENTER)
    terminal.wait("two, longer")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    assert max(map(len, terminal.lines())) <= 20
    assert "A long heading of it" in terminal.lines()


def test_no_color(sit, model):
    model.say = lambda body: ["**bold** and `code`\n\n```python\nx = 1\n```\n"]
    plain = sit(environment={"NO_COLOR": "1"})
    plain.type("hi" + ENTER)
    plain.wait("x = 1")
    plain.wait("tokens in")
    plain.type("/modles" + ENTER)
    plain.wait("error:")
    assert not plain.screen.styled
    coloured = sit()
    coloured.type("hi" + ENTER)
    coloured.wait("x = 1")
    assert coloured.screen.styled


def test_a_terminal_that_can_do_nothing(sit, model):
    model.say = lambda body: ["**bold**\n\n- one\n"]
    terminal = sit(environment={"TERM": "dumb"}, ready=">")
    terminal.type("hi" + ENTER)
    terminal.wait("- one")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0


def test_what_a_model_says_does_nothing_to_the_terminal(sit, model):
    evil = "\x1b]0;owned\x07 \x1b[2J\x1b[5mblink \x9b31m \x1b]52;c;ZXZpbA==\x07 [here](https://evil.example/?q=1)"
    model.say = lambda body: [evil]
    terminal = sit()
    terminal.type("hi" + ENTER)
    terminal.wait("blink")
    terminal.wait("tokens in")
    assert terminal.screen.titles == []
    assert "Talking with mock" in terminal.text, "the window was emptied"
    assert "https://evil.example/?q=1" in terminal.text
    assert "\x9b" not in terminal.raw
    assert "\x1b]" not in terminal.raw


def test_a_long_answer_scrolls_and_nothing_is_lost_or_doubled(sit, model):
    def long(body):
        for number in range(60):
            yield f"{number}. item number {number}\n"
            yield 0.005
        yield "\n```text\n"
        for number in range(60):
            yield f"code {number}\n"
            yield 0.005
        yield "```\n\nThe end.\n"

    model.say = long
    terminal = sit(rows=12, columns=40)
    terminal.type("hi" + ENTER)
    terminal.wait("The end.")
    terminal.wait("tokens in")
    lines = [line.strip() for line in terminal.lines()]
    assert [line for line in lines if line.startswith("code ")] == [f"code {n}" for n in range(60)]
    items = [line for line in lines if "item number" in line]
    assert [line.split()[-1] for line in items] == [str(n) for n in range(60)]


def test_answers_can_go_into_a_file(sit, model, tmp_path):
    model.say = lambda body: ["**bold**\n"]
    with (tmp_path / "out.txt").open("wb") as out:
        terminal = sit(stdout=out.fileno())
        terminal.type("hi" + ENTER)
        terminal.wait("tokens in")
        terminal.type(CTRL_D)
        assert terminal.ended() == 0
    text = (tmp_path / "out.txt").read_text()
    assert text.endswith("**bold**\n")
    assert "\x1b" not in text
    assert "**bold**" not in terminal.text
    assert "> hi" in terminal.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mok"], "error: There is no model 'mok'. Did you mean 'mock'?"),
        (["-c"], "error: There is no conversation yet that could be gone on with."),
        (["--conversation", "nix"], "error: There is no conversation 'nix' that is yours."),
        (["--temporary", "-c"], "error: --temporary begins a conversation"),
        (["--url", "nowhere"], "error: The server nowhere wants an API key"),
        (["--url", "nowhere", "--key", "x"], "error: 'nowhere' is no address of a server"),
        (["--url", "http://127.0.0.1:9", "--key", "x"], "error: No answer from http://127.0.0.1:9"),
    ],
)
def test_what_cannot_begin_is_said_in_a_sentence(sit, arguments, sentence):
    terminal = sit(*arguments, columns=120, ready=sentence)
    assert terminal.ended() == 2
    assert "Traceback" not in terminal.text


def test_chat_needs_a_terminal(ask):
    done = ask(command="chat", piped=b"hello\n" * 500)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "error: `wordmill chat` reads from a terminal. In a pipe use `wordmill ask`, as in "
        "`cat notes.txt | wordmill ask 'Summarise this.'`\n"
    )


def test_a_model_that_fails_is_said_and_the_shell_goes_on(sit, model):
    def fails(body):
        raise OSError("gone")

    model.say = fails
    terminal = sit(environment={"WORDMILL_ATTEMPTS": "1"}, columns=100)
    terminal.type("hi" + ENTER)
    terminal.wait("error: No answer, or not all of it:")
    model.say = lambda body: ["Better now."]
    terminal.type("/retry" + ENTER)
    terminal.wait("Better now.")

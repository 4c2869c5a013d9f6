"""`wordmill ask`: a question in a pipe, and its answer as plain text."""

import os
import signal
import subprocess
import time

import pytest

from tests.shell.conftest import WORDMILL


def test_what_is_piped_in_comes_after_the_text(ask, model):
    done = ask("Summarise", "this.", piped=b"First line\nsecond line\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert model.questions[0] == "Summarise this.\n\nFirst line\nsecond line"
    assert done.stdout.decode() == ("You said: Summarise this.\n\nFirst line\nsecond line\n")


def test_a_pipe_gets_the_text_as_the_model_wrote_it(ask, model):
    model.say = lambda body: ["**bo", "ld** \x1b[31m\t`code`\n"]
    assert ask("x").stdout == b"**bold** \x1b[31m\t`code`\n"


def test_the_options(ask, model, tmp_path):
    (tmp_path / "a.txt").write_text("In the file.")
    done = ask("Look.", "-s", "Be brief.", "-a", "a.txt", "-m", "mock")
    assert done.returncode == 0, done.stderr
    system, question = model.asked[0]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert "In the file." in question["content"]
    assert "Look." in question["content"]


def test_only_what_is_kept_can_be_gone_on_with(ask, model):
    assert ask("one").returncode == 0
    assert ask("-c", "two").returncode == 2
    assert ask("--keep", "three").returncode == 0
    assert ask("-c", "four").returncode == 0
    last = next(body for body in model.asked if body["messages"][-1]["content"] == "four")
    assert [one["content"] for one in last["messages"]] == [
        "three", "You said: three", "four",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "piped", "sentence"),
    [
        ([], b"", "error: There is nothing to ask: give a TEXT, or pipe something in."),
        ([" "], b"\n \n", "error: There is nothing to ask: give a TEXT, or pipe something in."),
        (["-m", "mok", "x"], b"", "error: There is no model 'mok'. Did you mean 'mock'?"),
        (["-a", "no.txt", "x"], b"", "error: no.txt does not exist."),
        (["x"], b"\xff\xfe\x00", "error: What is piped in is no text: byte 1 is not UTF-8."),
        (["x"], b"a\x00b", "error: text: character 5 is NUL. Take it out."),
        (["x"], b"\xed\xa0\x80", "error: What is piped in is no text: byte 1 is not UTF-8."),
        (["-a", "bin", "x"], b"", "error: 'bin' is neither text (UTF-8) nor an image"),
        (["--url", "http://127.0.0.1:9", "--key", "k", "x"], b"", "error: No answer from http://"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(ask, tmp_path, arguments, piped, sentence):
    (tmp_path / "bin").write_bytes(b"\x00\x01\x02")
    done = ask(*arguments, piped=piped)
    error = done.stderr.decode()
    assert done.returncode == 2
    assert done.stdout == b""
    assert error.startswith(sentence), error
    assert error.count("\n") == 1, error


def test_a_model_that_fails(ask, model, environment):
    def fails(body):
        yield "Half of "
        raise OSError("gone")

    model.say = fails
    environment["WORDMILL_ATTEMPTS"] = "1"
    done = ask("x")
    assert done.returncode == 2
    assert b"error: The model 'mock' gave no answer" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_megabyte_goes_through(ask, model):
    text = "word " * 200_000
    model.say = lambda body: [f"{len(body['messages'][-1]['content'])} characters"]
    assert ask("Count.", piped=text.encode()).stdout == (
        f"{len(text) + len('Count.') + 2} characters\n".encode()
    )


def test_ctrl_c_keeps_what_came(model, environment, tmp_path):
    def words(body):
        for number in range(1000):
            yield f"word{number} "
            yield 0.02

    model.say = words
    with subprocess.Popen(
        [*WORDMILL, "ask", "x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        came = b""
        while b"word5 " not in came:
            came += os.read(process.stdout.fileno(), 100)
        process.send_signal(signal.SIGINT)
        came += process.stdout.read()
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()
    assert came.startswith(b"word0 word1 ")
    assert came.endswith(b"\n")
    end = time.monotonic() + 10
    while not model.hung_up and time.monotonic() < end:
        time.sleep(0.02)
    assert model.hung_up == 1


def test_a_reader_that_has_enough_ends_it_quietly(model, environment, tmp_path):
    def words(body):
        for number in range(1000):
            yield f"word{number} "
            yield 0.02

    model.say = words
    command = " ".join(f"'{part}'" for part in WORDMILL)
    done = subprocess.run(
        ["bash", "-c", f"{command} ask x | head -c 5; echo; echo ${{PIPESTATUS[0]}}"],
        stdin=subprocess.DEVNULL, capture_output=True, env=environment, cwd=tmp_path, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == b"word0\n0\n"
    assert done.stderr == b""


def test_an_answer_at_a_terminal_is_rendered(sit, model):
    model.say = lambda body: ["**bold**\n\n- one\n"]
    terminal = sit("x", command="ask", ready="")
    assert terminal.ended() == 0
    assert terminal.lines() == ["bold", "", " • one"]

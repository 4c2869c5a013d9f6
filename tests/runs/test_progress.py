"""The lines that tell how far a run is."""

import io
from collections.abc import Sequence

from tests.runs.conftest import Project
from tests.servers.imperfect import completion, serving
from wordmill.recipes import Recipe
from wordmill.runs.budget import Budget
from wordmill.runs.door import generate
from wordmill.runs.execute import Tally
from wordmill.runs.meter import Lane, Reading
from wordmill.runs.plan import make_plan
from wordmill.runs.progress import Lines, Silent, Terminal
from wordmill.runs.session import Progress

PLAN = make_plan(
    Recipe(
        "tickets",
        model="mock",
        columns={
            "ticket": {"type": "prompt", "prompt": "A ticket."},
            "urgency": {"type": "prompt", "prompt": "{{ ticket }}"},
        },
    )
)


def progress(
    ended: int, tickets: int, failed: int = 0, off: int = 0, seconds: float = 5.0
) -> Progress:
    tally = Tally(PLAN)
    tally.done |= {"ticket": tickets, "urgency": ended}
    tally.failed["ticket"] = failed
    tally.off["ticket"] = off
    reading = Reading(
        seconds=seconds, requests=300, cached=0, joined=0, resumed=0, tokens_in=0, tokens_out=0,
        money=0.2, retried={}, failed={}, spent={"requests": 300, "tokens": 9_000, "money": 0.21},
        ceiling=None, in_flight=8, sitting=seconds,
        lanes=(Lane("mock", in_flight=8, limit=8, backed_off=1, p50=0.214, stopped=None),),
    )  # fmt: skip
    return Progress(rows=200, ended=ended, part_done=3, tally=tally, reading=reading, ending="")


def test_one_line_a_column_and_one_for_the_lanes() -> None:
    lines = Lines("tickets-1", ["ticket", "urgency"], 0, Budget(money=5.0))
    lines.of(progress(0, 0), now=100.0)
    assert lines.of(progress(50, 100, failed=2), now=105.0) == [
        "tickets-1  50 of 200 rows  25 %  0:05  0:15 left",
        "  ticket         100 done      2 failed        20/s  0:05 left",
        "  urgency         50 done      0 failed        10/s  0:15 left",
        "  lanes  in flight 8, p50 0.21 s, backed off 1, $0.21 of $5.00",
    ]


def test_every_line_fits_a_terminal() -> None:
    budget = Budget(money=5.0, requests=1_000, tokens=1_000_000)
    lines = Lines("tickets-of-a-long-name-1", ["ticket", "urgency"], 0, budget)
    shown = lines.of(progress(50, 102), now=106.0)
    assert max(len(line) for line in shown) == 80


def test_rates_look_back_ten_seconds() -> None:
    lines = Lines("tickets-1", ["ticket"], 0, Budget())
    for second in range(30):
        shown = lines.of(progress(0, second * 4 if second < 10 else 40), now=float(second))
    assert shown[0] == "tickets-1  0 of 200 rows  0 %  0:05  waiting"
    assert shown[1] == "  ticket         40 done      0 failed       0.0/s  waiting"


def test_rows_of_earlier_sittings_are_neither_done_now_nor_left() -> None:
    lines = Lines("tickets-1", ["ticket"], 60, Budget())
    lines.of(progress(60, 0), now=0.0)
    shown = lines.of(progress(100, 40), now=10.0)
    assert shown[0] == "tickets-1  100 of 200 rows (60 from before)  50 %  0:05  0:25 left"
    assert shown[1] == "  ticket         40 done      0 failed       4.0/s  0:25 left"


def test_cells_that_are_switched_off_are_neither_done_nor_left() -> None:
    lines = Lines("tickets-1", ["ticket"], 0, Budget())
    lines.of(progress(0, 0), now=0.0)
    shown = lines.of(progress(100, 40, off=60), now=10.0)
    assert shown[1] == "  ticket         40 done      0 failed       4.0/s  0:25 left"
    assert lines.of(progress(200, 80, off=120), now=20.0)[1].endswith("done")


class Listening(Silent):
    """Keeps the columns that are shown, and the newest counts."""

    def begin(self, run: str, columns: Sequence[str], earlier: int, budget: Budget) -> None:
        self.columns = tuple(columns)

    def show(self, progress: Progress) -> None:
        self.tally = progress.tally


def test_what_is_asked_is_shown_and_counted_once(project: Project) -> None:
    columns = {
        "mood": {"type": "category", "values": ["calm", "angry"], "draw": "balanced"},
        "note": {"type": "prompt", "prompt": "A note.", "when": "mood == 'angry'"},
        "reply": {"type": "prompt", "prompt": "Reply to {{ note }}", "when": "row > 5"},
        "deeds": {"type": "candidates", "n": 2, "prompt": "Deeds?", "when": "row > 5"},
        "more": {"type": "prompt", "prompt": "More?", "when": "parameters.more and row > 5"},
    }
    recipe = Recipe(
        "notes",
        model="mock",
        columns=columns,
        parameters={"more": {"type": "boolean", "default": False}},
    )
    heard = Listening()
    bad = completion("I'm sorry, but I can't help with that.")

    with serving(
        lambda asked: (
            bad if "Reply" in asked.body["messages"][0]["content"] else completion("Well.")
        )
    ) as server:
        project.model("mock", f"{server.url}/v1", concurrency=2)
        generate(recipe, rows=10, cache=False, reporter=heard)
    assert heard.columns == ("note", "reply", "deeds")
    asked = ("mood", "note", "reply", "deeds", "more")
    assert {name: heard.tally.done[name] for name in asked} == {
        "mood": 10, "note": 5, "reply": 0, "deeds": 4, "more": 0,
    }  # fmt: skip
    assert {name: heard.tally.failed[name] for name in asked} == {
        "mood": 0, "note": 0, "reply": 4, "deeds": 0, "more": 0,
    }  # fmt: skip
    assert {name: heard.tally.off[name] for name in asked} == {
        "mood": 0, "note": 5, "reply": 6, "deeds": 6, "more": 10,
    }  # fmt: skip


def test_where_there_is_no_terminal_lines_come_now_and_then() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    terminal.begin("tickets-1", ["ticket"], 0, Budget())
    for _ in range(100):
        terminal.show(progress(1, 1))
    assert stream.getvalue() == ""
    terminal.say("The server refuses `seed`: it is left out.")
    terminal.close()
    assert stream.getvalue() == "The server refuses `seed`: it is left out.\n"

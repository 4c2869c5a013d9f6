"""What every store does: the same questions, the same answers."""

from dataclasses import replace

import pytest

from tests.stores.conftest import BEGAN, entry, put, whose
from wordmill.stores.base import Event, Hit, Kind, Query, Scope, Statistics, Store, excerpt


def lines(hits: list[Hit]) -> list[int]:
    return [hit.line for hit in hits]


def find(store: Store, text: str = "", owner: str = "bob", **more: object) -> list[int]:
    query = Query(text=text, **more)  # type: ignore[arg-type]
    return lines(store.search(Scope(owner, "batch_1", batches=["batch_1"]), query))


def test_lines_are_found_by_their_words_and_all_else(store: Store) -> None:
    put(
        store, whose(),
        entry(1, "Write of the heron.", "Grey it stands"),
        entry(2, "Write of the otter.", "It swims, and swims", model="n"),
        entry(3, "Write of both", "the provider is away", status="timeout", custom_id="x:3"),
        entry(4, "", "", custom_id=""),
    )  # fmt: skip
    assert find(store) == [1, 2, 3, 4]
    assert find(store, "write") == [1, 2, 3]
    assert find(store, "OTTER swims") == [2]
    assert find(store, "heron otter") == []
    assert find(store, "provider") == [3]
    assert find(store, "wri") == []
    assert find(store, status="timeout") == [3]
    assert find(store, failed=True) == [3]
    assert find(store, failed=False) == [1, 2, 4]
    assert find(store, model="n") == [2]
    assert find(store, custom_id="x:3") == [3]
    assert find(store, since=BEGAN + 2, until=BEGAN + 3) == [2, 3]
    assert find(store, "write", failed=False, until=BEGAN + 1.5) == [1]
    (hit,) = store.search(Scope("bob", "batch_1"), Query(custom_id="x:3"))
    assert replace(hit, excerpt=None) == Hit(
        "batch_1", 3, "x:3", "timeout", "m", BEGAN + 3, 0.3, 1, False, 0
    )


@pytest.mark.parametrize(
    ("text", "looked_for", "found"),
    [
        ("Don't say snake_case: 3.14", "don't", True),
        ("Don't say snake_case: 3.14", "case", True),
        ("Don't say snake_case: 3.14", "3.14", True),
        ("Café au lait", "cafe", True),
        ("Cafe\u0301 au lait", "CAFÉ", True),
        ("ÜBERGRÖSSE", "übergrösse", True),
        ("漢字と仮名", "字", True),
        ("漢字と仮名", "漢名", True),
        ("漢字と仮名", "英", False),
        ("한국어 문장", "문장", True),
        ("हिन्दी भाषा", "हिन्दी", True),
        ("हिन्दी भाषा", "हिन्", False),
        ("x² ﬁne", "x2 fine", True),
        ("a\x00b \ufffe \U0001f600 end", "end", True),
        ("word " + "w" * 40_000, "word", True),
        ("w" * 300 + " tail", "w" * 300, True),
        ("plain", "plain\ud800", True),
        ("anything", "!!! ***", True),
    ],
)
def test_words_are_words_everywhere(store: Store, text: str, looked_for: str, found: bool) -> None:
    put(store, whose(), entry(1, text))
    assert find(store, looked_for) == ([1] if found else [])


@pytest.mark.parametrize(
    "text",
    [
        'heron" OR "otter', "heron OR otter", "heron*", "text:heron -otter", "(heron", "her?n",
        "heron~2", "+heron +otter", "NOT heron", "heron AND NOT otter", "/her.*/",
        "NEAR(heron otter)",
        "{heron}", "_exists_:text", "heron\\", "'; DROP TABLE results; --",
        " ".join(f"word{n}" for n in range(5000)),
    ],
)  # fmt: skip
def test_a_text_is_words_and_never_a_command(store: Store, text: str) -> None:
    put(store, whose(), entry(1, "a heron"), entry(2, "an otter"), entry(3, text, status="bad"))
    only = text in ("heron*", "(heron", "{heron}", "heron\\")
    assert find(store, text) == ([1, 3] if only else [3])


def test_other_words_of_a_query_are_values_too(store: Store) -> None:
    put(store, whose(), entry(1), entry(2, custom_id='a" OR 1=1', model="*", status="x' --"))
    assert find(store, custom_id='a" OR 1=1') == [2]
    assert find(store, model="*") == [2]
    assert find(store, status="x' --") == [2]
    assert find(store, custom_id="*") == []


def test_pages_follow_each_other_through_all_batches(store: Store) -> None:
    for batch in ("batch_1", "batch_2", "batch_3"):
        put(store, whose(batch), *(entry(n) for n in range(1, 8)))
    scope = Scope("bob", batches=["batch_3", "batch_2", "batch_1"])
    seen: list[tuple[str, int]] = []
    while page := store.search(scope, Query("hello"), after=seen[-1] if seen else None, limit=4):
        seen += [(hit.batch, hit.line) for hit in page]
    assert seen == [(f"batch_{n}", line) for n in (3, 2, 1) for line in range(1, 8)]


def test_nobody_finds_what_is_anothers(store: Store) -> None:
    put(store, whose("batch_1", dataset="zoo"), entry(1, "secret heron"))
    put(store, whose("batch_2", "cem", dataset="zoo"), entry(1, "own heron"))
    store.note(whose("batch_1"), [Event(BEGAN, "log", "test", "secret")])
    both = ["batch_2", "batch_1"]
    assert [hit.batch for hit in store.search(Scope("cem", batches=both), Query("heron"))] == [
        "batch_2"
    ]
    for scope in (
        Scope("cem", "batch_1", batches=both),
        Scope("cem", "batch_1", dataset="zoo", batches=both),
        Scope("", "batch_1", batches=both),
        Scope("*", batches=both),
    ):
        assert store.search(scope, Query()) == []
    assert store.statistics("cem", "batch_1") == Statistics()
    assert store.series("cem", "batch_1") == []
    assert store.count("cem", "batch_1") == 0
    assert store.blocks("cem", "batch_1") == {}
    assert store.events("cem", "batch_1") == []
    assert store.whole("cem", "batch_1", 1) is None


def test_all_is_counted(store: Store) -> None:
    put(
        store, whose(),
        *(entry(n) for n in range(1, 101)),
        entry(101, status="timeout", attempts=4, model="n", money=0.0),
        entry(102, status="invalid_json", attempts=0, model="", seconds=0.0, input_tokens=0),
        entry(103, cached=True, attempts=0, seconds=0.0),
    )  # fmt: skip
    told = store.statistics("bob", "batch_1")
    assert replace(told, latency={}) == Statistics(
        lines=103, completed=101, failed=2, cached=1, retried=3, input_tokens=306,
        output_tokens=515, money=25.5, causes={"timeout": 1, "invalid_json": 1},
        models={"m": 101, "n": 1},
    )  # fmt: skip
    assert list(told.latency) == [50, 90, 95, 99]
    for percent, seconds in told.latency.items():
        assert seconds == pytest.approx(percent / 10, abs=0.3)
    assert store.statistics("bob", "batch_9") == Statistics()


def test_a_series_covers_the_time_in_equal_stretches(store: Store) -> None:
    put(store, whose(), *(entry(n, status="ok" if n % 4 else "bad") for n in range(1, 101)))
    for points in (1, 2, 7, 10, 60):
        series = store.series("bob", "batch_1", points)
        assert len(series) <= points
        assert series[0].at == BEGAN + 1
        assert sum(one.completed for one in series) == 75
        assert sum(one.failed for one in series) == 25
    (whole,) = store.series("bob", "batch_1", 1)
    assert (whole.input_tokens, whole.output_tokens, whole.money) == (300, 500, 25.0)
    assert (whole.p50, whole.p95) == pytest.approx((5.0, 9.5), abs=0.2)
    first, second = store.series("bob", "batch_1", 2)
    assert second.at - first.at == pytest.approx(49.501)
    assert (first.completed + first.failed, second.completed + second.failed) == (50, 50)


def test_a_block_is_added_once(store: Store) -> None:
    ten = [entry(n) for n in range(1, 11)]
    store.add(whose(), 0, ten)
    store.add(whose(), 0, [replace(one, custom_id="other") for one in ten])
    store.add(whose(), 1, [entry(11)])
    assert (store.count("bob", "batch_1"), store.blocks("bob", "batch_1")) == (11, {0: 10, 1: 1})
    assert find(store, custom_id="other") == []


def test_what_happened_comes_in_order_and_by_pages(store: Store) -> None:
    kinds: list[Kind] = ["state", "retry", "metrics", "metrics", "dead", "log"]
    made = [
        Event(BEGAN + n // 2, kind, "here", f"number {n}", {"n": n, "deep": {"x": [1, None]}})
        for n, kind in enumerate(kinds)
    ]
    store.note(whose(), made)
    store.note(whose("batch_2"), [Event(BEGAN, "log", "here", "another's")])
    seen: list[Event] = []
    while page := store.events("bob", "batch_1", after=seen[-1].cursor if seen else "", limit=4):
        seen += page
    assert [replace(one, cursor="") for one in seen] == made
    wanted: list[Kind] = ["metrics", "dead"]
    found = store.events("bob", "batch_1", kinds=wanted)
    assert [one.detail["n"] for one in found] == [2, 3, 4]
    last = store.events("bob", "batch_1", limit=2, newest=True)
    assert [one.detail["n"] for one in last] == [4, 5]


def test_a_batch_that_is_removed_is_gone_whole(store: Store) -> None:
    for batch in ("batch_1", "batch_2"):
        put(store, whose(batch), *(entry(n) for n in range(1, 31)))
        store.note(whose(batch), [Event(BEGAN, "log", "here", "one")])
        store.describe(whose(batch), "completed", {"endpoint": "/v1/embeddings"})
    store.remove("batch_1")
    store.remove("batch_1")
    assert (store.count("bob", "batch_1"), store.events("bob", "batch_1")) == (0, [])
    assert (store.count("bob", "batch_2"), len(store.events("bob", "batch_2"))) == (30, 1)


def test_what_is_let_go_can_come_back(store: Store) -> None:
    put(store, whose(), *(entry(n) for n in range(1, 11)))
    store.describe(whose(), "completed", {})
    assert store.retain(BEGAN, None) == []
    assert store.forgotten("batch_1") is False
    assert store.forgotten("batch_9") is False


def test_an_excerpt_shows_whole_words() -> None:
    text = "It is otherwise. " * 20 + "An otter, Ötter or otters;\n swims. " + "So it goes. " * 30
    shown = excerpt(text, ["otter"])
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert "An ⟦otter⟧, ⟦Ötter⟧ or otters; swims." in shown
    assert "⟦other" not in shown
    assert excerpt("short", []) == "short"
    assert excerpt("漢字と", ["字"]) == "漢⟦字⟧と"
    assert excerpt("no such", ["word"]) == "no such"

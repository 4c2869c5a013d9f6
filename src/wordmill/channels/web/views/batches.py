"""The page of batches: a file of requests in, live progress, what became of them, answers out."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import altair
import pandas
import streamlit as st

from wordmill.accounts import Person
from wordmill.batches import Batch, File
from wordmill.batches import Wish as Order
from wordmill.batches.types import KINDS
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.errors import InvalidInput
from wordmill.runs.budget import parse_budget
from wordmill.stores.base import Event, Kind, Query

Texts = Callable[[str], str]

LISTED: Final = 50
HITS: Final = 50
DOWNLOAD: Final = 64 << 20
"""Bytes that a browser is given by this page; the API gives any length."""
HEIGHT: Final = 200
NOTED: Final = 1000
"""Figures of which a chart is drawn."""
HAPPENED: Final = 200
DEAD: Final = 20
"""Blocks that were given up and are listed."""


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Batches"), anchor=False)
    with parts.said():
        _order(house, who, _)
        _standing(house, who, _)
        found = house.batches.all(who.id, limit=LISTED)
        if not found:
            st.info(_("A batch is a file of requests, answered while you are away."))
            return
        busy = any(not batch.ended for batch in found)
        st.fragment(_listed, run_every=1.0 if busy else None)(busy)
        _one(house, who, found, _)


def _order(house: House, who: Person, _: Texts) -> None:
    with st.container(border=True):
        st.subheader(_("New batch"), anchor=False)
        sent_before = st.session_state.setdefault("sent-batches", 0)  # an empty box after each
        sent = st.file_uploader(
            _("Requests, a line of JSON each"), type=["jsonl"], key=f"requests-{sent_before}"
        )
        row = st.columns(3)
        endpoint = row[0].selectbox(_("What each line asks for"), list(KINDS))
        dataset = row[1].text_input(_("Dataset"), max_chars=200, help=_("A label to find it by."))
        source = row[2].text_input(_("Source"), max_chars=200, help=_("A label to find it by."))
        cache = st.toggle(_("Use answers that are known already"), value=True)
        more = _more(_)
        if not st.button(_("Send"), type="primary", icon=":material/send:", disabled=sent is None):
            return
        assert sent is not None
        with parts.said():
            beyond = more()
            upload = house.files.begin(who.id, sent.name)
            try:
                while piece := sent.read(1 << 20):
                    upload.write(piece)
                file = upload.commit()
            finally:
                upload.abort()
            wish = Order(
                file=file.id, endpoint=endpoint, dataset=dataset or None, source=source or None,
                cache=cache, **beyond,
            )  # fmt: skip
            batch, _new = house.order_batch(who, wish)
            st.session_state["batch"] = batch.id
            st.session_state["sent-batches"] += 1
            st.rerun()


def _more(_: Texts) -> Callable[[], dict[str, Any]]:
    """The fields that few need; what they hold, once it is asked for. It raises InvalidInput."""
    with st.expander(_("More")):
        row = st.columns(3)
        priority = row[0].slider(
            _("Priority"), 0, 9, 4, help=_("Of batches that wait, the highest goes first.")
        )
        hours = row[1].number_input(
            _("Hours until it expires"), min_value=1, max_value=720, value=24
        )
        budget = row[2].text_input(
            _("Budget"), placeholder="5usd, 1000requests", help=_("A ceiling; empty for none.")
        )
        left, right = st.columns(2)
        url = left.text_input(
            _("Server"), placeholder="https://example.org/v1",
            help=_("Of lines that name none, instead of a model of the catalog."),
        )  # fmt: skip
        key = right.text_input(
            _("Name of its key"), help=_("As it is called in the settings; never the key itself.")
        )
        form = left.text_area(
            _("How answers must look"), placeholder='{"choices": ["yes", "no"], "tries": 3}',
            help=_("JSON with `schema`, `choices` or `pattern`, and `tries`: what does not fit is "
                   "asked again."),
        )  # fmt: skip
        post = right.text_input(
            _("A function that gets each answer"), placeholder="package.module:function"
        )

    def read() -> dict[str, Any]:
        try:
            wanted = json.loads(form) if form.strip() else None
        except ValueError as error:
            raise InvalidInput(f"How answers must look is no JSON: {error}.", "validate") from error
        return {
            "priority": priority, "window": hours * 3600.0, "url": url or None, "key": key or None,
            "budget": parse_budget(budget).ceilings() if budget else {}, "validate": wanted,
            "post": post or None,
        }  # fmt: skip

    return read


def _listed(was_busy: bool) -> None:
    """The batches, again and again while one is under way."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    found = house.batches.all(who.id, limit=LISTED)
    for batch in found:
        if not batch.ended:
            _progress(house, who, batch, _)
    column = st.column_config
    st.dataframe(
        [
            {
                "batch": batch.id,
                "state": _state(batch, _),
                "answered": batch.counts.completed,
                "failed": batch.counts.failed,
                "requests": batch.counts.total,
                "dataset": batch.dataset or "",
                "ordered": batch.created,
            }
            for batch in found
        ],
        hide_index=True,
        width="stretch",
        column_config={
            "batch": column.TextColumn(_("Batch"), pinned=True),
            "state": column.TextColumn(_("State")),
            "answered": column.NumberColumn(_("Answered"), format="localized"),
            "failed": column.NumberColumn(_("Failed"), format="localized"),
            "requests": column.NumberColumn(_("Requests"), format="localized"),
            "dataset": column.TextColumn(_("Dataset")),
            "ordered": column.DatetimeColumn(_("Ordered"), format="distance"),
        },
    )
    if was_busy and all(batch.ended for batch in found):
        st.rerun()


def _progress(house: House, who: Person, batch: Batch, _: Texts) -> None:
    counts = batch.counts
    row = st.container(horizontal=True, vertical_alignment="center")
    done = counts.completed + counts.failed
    words = _("{batch}: {done} of {all} answered, {failed} failed").format(
        batch=parts.plain(batch.id),
        done=f"{counts.completed:,}",
        all=f"{counts.total:,}",
        failed=f"{counts.failed:,}",
    )
    row.progress(min(1.0, done / max(1, counts.total)), text=words)
    if batch.state != "cancelling" and row.button(
        _("Cancel"), key=f"cancel-{batch.id}", icon=":material/stop_circle:"
    ):
        with parts.said():
            house.cancel_batch(who, batch.id)
            st.rerun()


def _standing(house: House, who: Person, _: Texts) -> None:
    """Queues, and the processes that answer; for admins, where there are any."""
    if not who.admin or house.conductor is None:
        return
    with st.expander(_("Queues and workers"), icon=":material/lan:"):
        standing = house.queues.standing()
        for words in (standing.trouble, house.conductor.trouble()):
            if words:
                st.warning(parts.plain(words))
        column = st.column_config
        st.dataframe(
            [
                {
                    "name": one.name, "blocks": one.blocks, "waiting": one.waiting,
                    "consumers": one.consumers,
                }
                for one in standing.queues
            ],
            hide_index=True,
            width="stretch",
            column_config={
                "name": column.TextColumn(_("Queue"), pinned=True),
                "blocks": column.NumberColumn(_("Blocks")),
                "waiting": column.NumberColumn(_("Waiting")),
                "consumers": column.NumberColumn(_("Consumers")),
            },
        )  # fmt: skip
        st.dataframe(
            [
                {"id": one.id, "kind": one.kind, "started": one.started, "seen": one.seen}
                for one in standing.workers
            ],
            hide_index=True,
            width="stretch",
            column_config={
                "id": column.TextColumn(_("Process"), pinned=True),
                "kind": column.TextColumn(_("What")),
                "started": column.DatetimeColumn(_("Started"), format="distance"),
                "seen": column.DatetimeColumn(_("Last seen"), format="distance"),
            },
        )


def _dead(house: House, who: Person, batch: Batch, _: Texts) -> None:
    """Blocks that consumers gave up, and a button that lets them try again."""
    found = [] if house.conductor is None else house.queues.dead(who.id, batch.id)
    if not found or batch.ended:
        return
    st.error(
        _("Blocks given up: {count}. The batch waits for them until it expires.").format(
            count=len(found)
        )
    )
    for one in found[:DEAD]:
        st.markdown(
            _("{lines} lines from line {first}: {reason}").format(
                lines=f"{one.lines:,}", first=f"{one.first:,}", reason=parts.plain(one.reason)
            )
        )
    if st.button(_("Try them again"), icon=":material/replay:"):
        house.replay_batch(who, batch.id)
        st.rerun()


def _one(house: House, who: Person, found: list[Batch], _: Texts) -> None:
    by_id = {batch.id: batch for batch in found}
    if st.session_state.get("batch") not in by_id:
        st.session_state["batch"] = found[0].id
    name = st.selectbox(
        _("Look at"),
        list(by_id),
        key="batch",
    )
    batch = by_id[name]
    for reason in batch.errors[:20]:
        line = _("Line {line}:").format(line=reason["line"]) + " " if reason.get("line") else ""
        st.error(parts.plain(line + reason["message"]))
    _dead(house, who, batch, _)
    if not batch.counts.total:
        return
    told, results, files = st.tabs([_("Counts"), _("Results"), _("Files")])
    with told, parts.said():
        _counts(house, who, batch, _)
    with results, parts.said():
        _results(house, who, batch, _)
    with files, parts.said():
        _files(house, who, batch, _)


def _counts(house: House, who: Person, batch: Batch, _: Texts) -> None:
    totals = house.results.statistics(who.id, batch.id)
    row = st.container(horizontal=True, gap="large")
    row.metric(_("Answered"), f"{totals.completed:,}")
    row.metric(_("Failed"), f"{totals.failed:,}")
    row.metric(_("Cached"), f"{totals.cached:,}")
    row.metric(_("Asked again"), f"{totals.retried:,}")
    row.metric(_("Tokens"), f"{totals.input_tokens + totals.output_tokens:,}")
    row.metric(_("Money"), parts.money(totals.money))
    if totals.latency:
        row.metric(_("Half within"), f"{totals.latency[50]:.2f} s")
        row.metric(_("95 % within"), f"{totals.latency[95]:.2f} s")
    for cause, lines in sorted(totals.causes.items()):
        st.markdown(f":material/error: {parts.plain(cause)}: {lines:,}")
    _over_time(house, who, batch, _)
    with st.expander(_("What happened"), icon=":material/history:"):
        _happened(house, who, batch, _)


def _over_time(house: House, who: Person, batch: Batch, _: Texts) -> None:
    series = house.results.series(who.id, batch.id)
    if len(series) < 2:
        return
    step = series[1].at - series[0].at
    frame = pandas.DataFrame(
        {
            "time": [datetime.fromtimestamp(point.at, UTC) for point in series],
            "rate": [point.completed / step for point in series],
            "failed": [point.failed / step for point in series],
            "p95": [point.p95 for point in series],
            "money": pandas.Series([point.money for point in series]).cumsum(),
        }
    )
    charts = [
        ("rate", _("Answers a second")),
        ("p95", _("95 % within, in seconds")),
        ("failed", _("Failed a second")),
        ("money", _("Money")),
    ]
    drawn = [(name, title) for name, title in charts if frame[name].any()]
    for start in range(0, len(drawn), 2):
        for column, (name, title) in zip(st.columns(2), drawn[start : start + 2], strict=False):
            chart = altair.Chart(frame, title=title, height=HEIGHT).mark_area(
                line=True, opacity=0.25, interpolate="step-after"
            )
            column.altair_chart(
                chart.encode(x=altair.X("time:T", title=None), y=altair.Y(f"{name}:Q", title=None)),
                width="stretch",
            )

    noted = house.results.events(who.id, batch.id, limit=NOTED, kinds=["metrics"], newest=True)
    under_way = pandas.DataFrame(
        {
            "time": [datetime.fromtimestamp(event.at, UTC) for event in noted],
            "requests": [event.detail.get("in_flight", 0) for event in noted],
            "source": [event.source for event in noted],
        }
    )
    if len(noted) > 1 and under_way["requests"].any():
        title = _("Requests on their way")
        chart = altair.Chart(under_way, title=title, height=HEIGHT).mark_area(
            opacity=0.5, interpolate="step-after"
        )
        st.altair_chart(
            chart.encode(
                x=altair.X("time:T", title=None),
                y=altair.Y("requests:Q", title=None),
                color=altair.Color("source:N", legend=None),
            ),
            width="stretch",
        )


def _happened(house: House, who: Person, batch: Batch, _: Texts) -> None:
    """States, requests that were sent again, blocks that were given up."""
    kinds: list[Kind] = ["state", "retry", "dead", "log"]
    found = house.results.events(who.id, batch.id, limit=HAPPENED, kinds=kinds, newest=True)
    if not found:
        st.caption(_("Nothing was written down."))
        return
    names = {
        "state": _("State"), "retry": _("Sent again"), "dead": _("Given up"), "log": _("Log"),
    }  # fmt: skip
    states = _states(_)
    column = st.column_config
    st.dataframe(
        [
            {
                "at": datetime.fromtimestamp(event.at, UTC),
                "kind": names[event.kind],
                "words": states.get(event.message, event.message) or _causes(event),
                "source": event.source,
            }
            for event in reversed(found)
        ],
        hide_index=True,
        width="stretch",
        column_config={
            "at": column.DatetimeColumn(_("When"), format="YYYY-MM-DD HH:mm:ss"),
            "kind": column.TextColumn(_("What")),
            "words": column.TextColumn(_("Details"), width="large"),
            "source": column.TextColumn(_("Process")),
        },
    )


def _causes(event: Event) -> str:
    causes: dict[str, int] = event.detail.get("causes") or {}
    trouble: dict[str, str] = event.detail.get("trouble") or {}
    told = [f"{cause}: {count:,}" for cause, count in sorted(causes.items())]
    return "; ".join([*told, *(f"{name}: {words}" for name, words in sorted(trouble.items()))])


def _results(house: House, who: Person, batch: Batch, _: Texts) -> None:
    row = st.columns([3, 1])
    text = row[0].text_input(
        _("Words in the request or the answer"), icon=":material/search:", max_chars=1000
    )
    only = row[1].selectbox(
        _("Which"),
        [None, False, True],
        format_func=lambda one: {None: _("All"), False: _("Answered"), True: _("Failed")}[one],
    )
    hits = house.results.search(who.id, Query(text=text, failed=only), batch=batch.id, limit=HITS)
    if not hits:
        st.caption(_("Nothing was found."))
        return
    for hit in hits:
        mark = "" if hit.status == "ok" else f" :material/error: {parts.plain(hit.status)}"
        title = f"{hit.line:,} · {parts.plain(hit.custom_id)}{mark}"
        with st.expander(title):
            st.caption(parts.plain(hit.excerpt or ""))
            if st.button(_("Show it whole"), key=f"whole-{hit.line}"):
                st.json(house.results.result(batch, hit), expanded=3)
    if len(hits) == HITS:
        st.caption(_("The first {count} are shown.").format(count=HITS))


def _files(house: House, who: Person, batch: Batch, _: Texts) -> None:
    for file, label in ((batch.output, _("Answers")), (batch.failures, _("Failures"))):
        if file is None:
            continue
        found = house.files.get(who.id, file)
        if found.bytes > DOWNLOAD:
            st.markdown(f"{label}: `wordmill batch results {batch.id} --to answers.jsonl`")
            continue
        st.download_button(
            f"{label}, {found.bytes / 1e6:,.1f} MB",
            data=_content(house, found),
            file_name=found.name,
            mime="application/jsonl",
            icon=":material/download:",
            key=file,
        )
    if not batch.ended:
        return
    row = st.container(horizontal=True)
    sent = batch.counts.failed - batch.counts.rejected
    if sent and row.button(
        _("Send the {count} failed ones again").format(count=f"{sent:,}"), icon=":material/replay:"
    ):
        house.retry_batch(who, batch.id)
        st.rerun()
    if row.button(_("Remove"), icon=":material/delete:"):
        house.batches.remove(who.id, batch.id)
        st.rerun()


def _content(house: House, file: File) -> Callable[[], Any]:
    return lambda: b"".join(house.batches.content(file))


def _state(batch: Batch, _: Texts) -> str:
    return _states(_)[batch.state]


def _states(_: Texts) -> dict[str, str]:
    return {
        "validating": _("being checked"),
        "failed": _("refused or stopped"),
        "in_progress": _("under way"),
        "finalizing": _("being finished"),
        "completed": _("completed"),
        "expired": _("expired"),
        "cancelling": _("being cancelled"),
        "cancelled": _("cancelled"),
    }

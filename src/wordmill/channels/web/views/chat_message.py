"""One message of a branch: what was said, what belongs to it, and what can be done with it."""

import json
from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.backends import templates
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.channels.web.views import chat_compare, chat_list
from wordmill.channels.web.views.chat_watch import Growing
from wordmill.chat.turns import Call
from wordmill.chat.types import Feedback, Message

_REASONS: Final = ("wrong", "refused", "style", "instructions", "other")
_AVATARS: Final = {"user": ":material/person:", "assistant": ":material/neurology:"}
Texts = Callable[[str], str]


def show(
    house: House, who: Person, message: Message, rating: Feedback | None, _: Texts
) -> list[Growing]:
    """Draw a question or an answer; what of it still grows, with its place."""
    with st.chat_message(message.role, avatar=_AVATARS[message.role]):
        answers = chat_compare.beside(house, who, message)
        if answers:
            together = st.toggle(_("Side by side"), value=True, key=f"beside {message.parent}")
            if together:
                return chat_compare.show(house, who, answers, message, _)
        if message.role == "assistant":
            st.caption(parts.plain(message.model or _("unknown model")))
        for part in message.parts:
            _part(house, who, part, _)
        if not message.ended:
            where = st.container()
            stop(house, who, message, _)
            return [Growing(message, where)]
        if message.reasoning:
            with st.expander(_("Reasoning"), icon=":material/neurology:"):
                st.markdown(parts.markdown(message.reasoning))
        if message.role == "user":
            with st.container(key=f"said-{message.id}"):
                st.markdown(parts.markdown(message.text))
        else:
            st.markdown(parts.markdown(message.text))
        _state(message, _)
        _actions(house, who, message, rating, _)
        if message.role == "assistant":
            _reason(house, who, message, rating, _)
    return []


def stop(house: House, who: Person, message: Message, _: Texts) -> None:
    """A button that ends an answer; what has come stays."""
    if st.button(_("Stop"), key=f"stop {message.id}", icon=":material/stop_circle:"):
        with parts.said():
            house.chat.stop(who, message.id)
        st.rerun()


def tool(house: House, who: Person, message: Message, call: Call | None, _: Texts) -> list[Growing]:
    """A call's result, or the question whether to make the call; what of it still grows."""
    part = next((one for one in message.parts if one.get("type") == "tool_result"), {})
    title = _("Tool: {name}").format(name=parts.plain(str(part.get("name", ""))))
    with st.expander(title, expanded=not message.ended, icon=":material/build:"):
        if message.text:
            st.code(message.text, language=None, wrap_lines=True)
        if message.error:
            st.error(parts.plain(message.error))
        if message.state == "answering":
            where = st.container()
            stop(house, who, message, _)
            return [Growing(message, where)]
        if message.state == "waiting" and call is not None:
            _ask(house, who, message, call, _)
    return []


def _ask(house: House, who: Person, message: Message, call: Call, _: Texts) -> None:
    st.markdown(
        _("The model wants to call **{tool}** of the server **{server}** with:").format(
            tool=parts.plain(call.tool), server=parts.plain(call.server)
        )
    )
    st.code(_pretty(call.arguments), language="json", wrap_lines=True)
    row = st.container(horizontal=True)
    for words, yes, kind in ((_("Run it"), True, "primary"), (_("Not this"), False, "secondary")):
        if row.button(words, key=f"{yes} {message.id}", type=kind):  # type: ignore[arg-type]
            with parts.said():
                house.chat.confirm(who, message.id, None, yes)
            st.rerun()


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments or "{}"), ensure_ascii=False, indent=2)
    except ValueError:
        return arguments


def _part(house: House, who: Person, part: Any, _: Texts) -> None:
    kind = part.get("type")
    if kind == "attachment":
        if str(part.get("media_type", "")).startswith("image/"):
            with parts.said():
                st.image(house.conversations.attachments.data(who, part["id"]), width=320)
        st.caption(f":material/attach_file: {parts.plain(part['name'])}")
    elif kind == "tool_call":
        name = parts.plain(str(part.get("name", "")))
        with st.expander(_("Calls {name}").format(name=name), icon=":material/build:"):
            st.code(_pretty(part.get("arguments", "")), language="json", wrap_lines=True)
    elif kind == "structured":
        st.json(part.get("value"), expanded=2)


def _state(message: Message, _: Texts) -> None:
    if message.state == "stopped":
        st.caption(_("Stopped; what had come is kept."))
    elif message.state == "interrupted":
        st.caption(_("Interrupted by a restart; what had come is kept."))
    elif message.state == "failed":
        st.error(parts.plain(message.error or _("No answer came.")))
    elif message.finish == "length":
        st.caption(_("It was cut: the longest answer that is set was reached."))
    dropped = (message.sent or {}).get("dropped", 0)
    if dropped:
        st.caption(
            _("{count} earlier messages did not fit and were not sent.").format(count=dropped)
        )
    for sentence in (message.sent or {}).get("degraded") or ():
        st.caption(parts.plain(_known(str(sentence), _)))


def _known(sentence: str, _: Texts) -> str:
    """What a model server says of a chat template, in the page's language; others as they are."""
    known = {
        templates.FOLDED: _(
            "This model's chat template has no system role: the system message stands at the head "
            "of the first turn."
        ),
        templates.PLAIN: _(
            "This model has no chat template: it reads the conversation as a plain transcript, and "
            "may go on writing it."
        ),
    }
    return known.get(sentence, sentence)


def _actions(
    house: House, who: Person, message: Message, rating: Feedback | None, _: Texts
) -> None:
    """A row of small buttons; `looks.css` shows their signs and keeps the words for readers."""
    row = st.container(horizontal=True, vertical_alignment="center", key=f"acts-{message.id}")
    if message.siblings > 1:
        _siblings(house, who, message, row, _)
    if message.role == "user":
        _edit(house, who, message, row, _)
        return
    _rate(house, who, message, rating, row, _)
    if row.button(
        _("Again"), key=f"again {message.id}", icon=":material/refresh:", type="tertiary",
        help=_("Another answer beside this one"),
    ):  # fmt: skip
        with parts.said():
            house.chat.regenerate(who, message.id, door="web")
            st.rerun()
    cut = message.state in ("stopped", "interrupted") or message.finish == "length"
    if cut and message.text and row.button(
        _("Continue"), key=f"on {message.id}", icon=":material/play_arrow:", type="tertiary",
        help=_("Go on where it was cut"),
    ):  # fmt: skip
        with parts.said():
            house.chat.continue_(who, message.id, door="web")
            st.rerun()
    more = row.popover(
        _("More"), icon=":material/more_horiz:", type="tertiary", key=f"more {message.id}",
        on_change="rerun", help=_("Fork, what was sent, what it took"),
    )  # fmt: skip
    if more.open:
        with more:
            _more(house, who, message, _)


def _siblings(house: House, who: Person, message: Message, row: Any, _: Texts) -> None:
    """`‹ 2/3 ›`: the other edits of a question, the other answers."""
    for step, icon, words in ((-1, "chevron_left", _("Before")), (1, "chevron_right", _("After"))):
        to = message.place + step
        if row.button(
            words, key=f"{step} {message.id}", icon=f":material/{icon}:",
            disabled=not 1 <= to <= message.siblings, type="tertiary",
        ):  # fmt: skip
            others = house.conversations.siblings(who, message.id)
            house.conversations.switch(who, others[to - 1].id)
            st.rerun()
        if step == -1:
            row.caption(f"{message.place}/{message.siblings}", width="content")


def _edit(house: House, who: Person, message: Message, row: Any, _: Texts) -> None:
    box = row.popover(
        _("Edit"), icon=":material/edit:", type="tertiary", key=f"edit {message.id}",
        on_change="rerun", help=_("Say it differently; the old branch stays"),
    )  # fmt: skip
    if not box.open:
        return
    with box:
        text = st.text_area(_("Your message"), message.text, key=f"text {message.id}", height=160)
        if st.button(_("Send again"), key=f"send {message.id}", type="primary"):
            with parts.said():
                house.chat.edit(who, message.id, text, door="web")
                st.session_state.pop(f"edit {message.id}", None)
                st.rerun()


def _rate(
    house: House, who: Person, message: Message, rating: Feedback | None, row: Any, _: Texts
) -> None:
    key, score = f"rate {message.id}", rating.score if rating else 0
    if key not in st.session_state and score:
        st.session_state[key] = int(score > 0)
    with row:
        thumb = st.feedback("thumbs", key=key)
    wanted = 0 if thumb is None else (1 if thumb else -1)
    if wanted != score:
        with parts.said():
            house.conversations.feedback(who, message.id, wanted)
            st.session_state["why"] = message.id if wanted else None
            st.rerun()


def _reason(house: House, who: Person, message: Message, rating: Feedback | None, _: Texts) -> None:
    """Why the thumb: asked once, right after it; what was said is shown later."""
    if rating is None:
        return
    words = {
        "wrong": _("It is wrong"), "refused": _("It refused"), "style": _("Its style"),
        "instructions": _("It did not do what I said"), "other": _("Something else"),
    }  # fmt: skip
    if st.session_state.get("why") != message.id:
        known = [words.get(rating.reason or "", rating.reason), rating.comment]
        said = ": ".join(parts.plain(one) for one in known if one)
        if said:
            st.caption(f":material/rate_review: {said}")
        return
    with st.form(f"why {message.id}"):
        reason = None
        if rating.score < 0:
            reason = st.pills(_("What was wrong?"), _REASONS, format_func=words.__getitem__)
        comment = st.text_input(_("Comment"), placeholder=_("what should be known about it"))
        row = st.container(horizontal=True)
        if row.form_submit_button(_("Send"), type="primary"):
            with parts.said():
                house.conversations.feedback(who, message.id, rating.score, reason, comment)
                st.session_state["why"] = None
                st.toast(_("Thank you."))
                st.rerun()
        if row.form_submit_button(_("No comment")):
            st.session_state["why"] = None
            st.rerun()


def _more(house: House, who: Person, message: Message, _: Texts) -> None:
    if message.usage:
        seconds = (message.timing or {}).get("seconds")
        st.caption(
            _("{model}: {input} tokens in, {output} out, {cost}{seconds}").format(
                model=parts.plain(message.model or ""),
                input=message.usage.get("input", 0),
                output=message.usage.get("output", 0),
                cost=parts.plain(parts.money(message.usage.get("cost", 0.0))),
                seconds=f", {seconds:.1f} s" if seconds else "",
            )
        )
    if st.button(_("Fork from here"), key=f"fork {message.id}", icon=":material/call_split:"):
        with parts.said():
            forked = house.conversations.fork(who, message.id)
            chat_list.open_conversation(forked.id)
            st.rerun()
    with st.expander(_("Show what was sent"), icon=":material/outbox:"), parts.said():
        st.json(house.chat.sent(who, message.id), expanded=2)
    with st.expander(_("The text as it stands"), icon=":material/content_copy:"):
        st.code(message.text, language=None, wrap_lines=True)

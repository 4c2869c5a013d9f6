"""The page for talk.

Answers are made by the server, never by this script: a click anywhere ends the running script, and
the next run finds the answer where it is by then. So the page only watches.

On the page are the last messages of one branch, with "Earlier" above them; the browser, and not the
server, is what a long conversation slows down.
"""

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import chat_compare, chat_drawer, chat_list
from wordmill.chat.types import Conversation, Message

SHOWN: Final = 50
_REASONS: Final = ("wrong", "refused", "style", "instructions", "other")
Texts = Callable[[str], str]


def show() -> None:
    """Draw the page: the list beside, the branch, the box to write in."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    with st.sidebar:
        conversation = chat_list.chosen(house, who, _)
    if conversation is None:
        _welcome(house, who, _)
        _write(house, who, None, _)
        return
    _head(house, who, conversation, _)
    shown = st.session_state.setdefault(f"shown {conversation.id}", SHOWN)
    branch = house.conversations.branch(who, conversation.id, limit=shown)
    if (
        branch
        and branch[0].parent is not None
        and st.button(_("Earlier"), icon=":material/history:")
    ):
        st.session_state[f"shown {conversation.id}"] = shown + SHOWN
        st.rerun()
    ratings = house.conversations.ratings(who, conversation.id)
    for message in branch:
        if message.role == "tool":
            _tool(house, who, message, _)
            if message.state == "answering":
                _watch(house, who, message, _)
        elif message.role in ("user", "assistant"):
            score = ratings[message.id].score if message.id in ratings else None
            _message(house, who, message, score, _)
    _write(house, who, conversation, _)


def _welcome(house: House, who: Person, _: Texts) -> None:
    st.title(_("What shall we talk about?"), anchor=False)
    if all(model.provider == "rehearsal" for model, _source in house.catalog.all()):
        st.info(
            _(
                "Only the rehearsal model is here: it answers at once, without weights, keys or "
                "sense. Add a real one on the page Models."
            ),
            icon=":material/info:",
        )


def _head(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.subheader(parts.plain(conversation.title or _("New conversation")), anchor=False)
    with right:
        chat_drawer.show(house, who, conversation, _)


def _message(house: House, who: Person, message: Message, score: int | None, _: Texts) -> None:
    with st.chat_message(message.role):
        if message.siblings > 1:
            _siblings(house, who, message, _)
        for part in message.parts:
            _part(house, who, message, part, _)
        answers = chat_compare.beside(house, who, message)
        if answers and st.toggle(_("Side by side"), value=True, key=f"beside {message.parent}"):
            chat_compare.show(house, who, answers, _)
            growing = next((one for one in answers if not one.ended), None)
            if growing is not None:
                _watch(house, who, growing, _)
            return
        if message.state in ("waiting", "answering"):
            _watch(house, who, message, _)
            return
        if message.reasoning:
            with st.expander(_("Reasoning")):
                st.markdown(parts.markdown(message.reasoning))
        st.markdown(parts.markdown(message.text))
        _state(message, _)
        _actions(house, who, message, score, _)


def _watch(house: House, who: Person, message: Message, _: Texts) -> None:
    """Show an answer as it grows. Ending this script ends nothing but the showing."""
    if st.button(_("Stop"), key=f"stop {message.id}", icon=":material/stop_circle:"):
        with parts.said():
            house.chat.stop(who, message.id)
        st.rerun()
    if message.state == "waiting":
        st.caption(_("Waiting for the answer before it."))
    shown, text = st.empty(), ""
    for event in house.chat.watch(who, message.id):
        if event.text:
            text += event.text
            # As a whole each time: what is harmless in two pieces may not be in one.
            shown.markdown(parts.markdown(text))
    st.rerun()


def _tool(house: House, who: Person, message: Message, _: Texts) -> None:
    """A call's result; or the question whether to make the call."""
    name = next((part["name"] for part in message.parts if part.get("type") == "tool_result"), "")
    title = _("Tool: {name}").format(name=parts.plain(name))
    with st.expander(title, expanded=not message.ended, icon=":material/build:"):
        if message.text:
            st.code(message.text, language=None, wrap_lines=True)
        if message.error:
            st.error(parts.plain(message.error))
        if message.state != "waiting":
            return
        row = st.container(horizontal=True)
        for words, yes in ((_("Run it"), True), (_("Not this"), False)):
            if row.button(words, key=f"{yes} {message.id}"):
                with parts.said():
                    house.chat.confirm(who, message.id, None, yes)
                st.rerun()


def _part(house: House, who: Person, message: Message, part: Any, _: Texts) -> None:
    kind = part.get("type")
    if kind == "attachment":
        if str(part.get("media_type", "")).startswith("image/"):
            with parts.said():
                st.image(house.conversations.attachments.data(who, part["id"]), width=320)
        st.caption(f":material/attach_file: {parts.plain(part['name'])}")
    elif kind == "tool_call":
        with st.expander(_("Tool: {name}").format(name=parts.plain(part["name"]))):
            st.code(part.get("arguments", ""), language="json")
    elif kind == "structured":
        st.json(part.get("value"), expanded=2)


def _state(message: Message, _: Texts) -> None:
    if message.state == "stopped":
        st.caption(_("Stopped; what had come is kept."))
    elif message.state == "interrupted":
        st.caption(_("Interrupted by a restart; what had come is kept."))
    elif message.state == "failed":
        st.error(parts.plain(message.error or _("No answer came.")))
    dropped = (message.sent or {}).get("dropped", 0)
    if dropped:
        st.caption(
            _("{count} earlier messages did not fit and were not sent.").format(count=dropped)
        )


def _siblings(house: House, who: Person, message: Message, _: Texts) -> None:
    """`‹ 2/3 ›`: the other edits of a question, the other answers."""
    row = st.container(horizontal=True, vertical_alignment="center")
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


def _actions(house: House, who: Person, message: Message, score: int | None, _: Texts) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    if message.role == "user":
        with row.popover(_("Edit"), icon=":material/edit:", type="tertiary"):
            text = st.text_area(_("Your message"), message.text, key=f"text {message.id}")
            if st.button(_("Send again"), key=f"edit {message.id}"):
                with parts.said():
                    house.chat.edit(who, message.id, text, door="web")
                    st.rerun()
        return
    _rate(house, who, message, score, row, _)
    again = row.button(
        _("Again"), key=f"again {message.id}", icon=":material/refresh:", type="tertiary"
    )
    if again:
        with parts.said():
            house.chat.regenerate(who, message.id, door="web")
            st.rerun()
    if message.state in ("stopped", "interrupted") and row.button(
        _("Continue"), key=f"on {message.id}", icon=":material/play_arrow:", type="tertiary"
    ):
        with parts.said():
            house.chat.continue_(who, message.id, door="web")
            st.rerun()
    with row.popover(_("More"), icon=":material/more_horiz:", type="tertiary"):
        _more(house, who, message, _)


def _rate(
    house: House, who: Person, message: Message, score: int | None, row: Any, _: Texts
) -> None:
    key = f"rate {message.id}"
    if key not in st.session_state and score is not None:
        st.session_state[key] = int(score > 0)
    with row:
        thumb = st.feedback("thumbs", key=key)
    wanted = 0 if thumb is None else (1 if thumb else -1)
    if wanted != (score or 0):
        with parts.said():
            house.conversations.feedback(who, message.id, wanted)


def _more(house: House, who: Person, message: Message, _: Texts) -> None:
    if message.usage:
        seconds = (message.timing or {}).get("seconds")
        st.caption(
            _("{model}: {input} tokens in, {output} out, {cost}{seconds}").format(
                model=parts.plain(message.model or ""),
                input=message.usage.get("input", 0),
                output=message.usage.get("output", 0),
                cost=parts.money(message.usage.get("cost", 0.0)),
                seconds=f", {seconds:.1f} s" if seconds else "",
            )
        )
    if st.button(_("Fork from here"), key=f"fork {message.id}", icon=":material/call_split:"):
        forked = house.conversations.fork(who, message.id)
        chat_list.open_conversation(forked.id)
        st.rerun()
    reason = st.selectbox(
        _("What was wrong?"), _REASONS, index=None, key=f"why {message.id}",
        format_func=lambda name: {
            "wrong": _("It is wrong"), "refused": _("It refused"), "style": _("Its style"),
            "instructions": _("It did not do what I said"), "other": _("Something else"),
        }[name],
    )  # fmt: skip
    comment = st.text_input(_("Comment"), key=f"note {message.id}")
    if (reason or comment) and st.button(_("Send"), key=f"tell {message.id}"):
        with parts.said():
            house.conversations.feedback(who, message.id, -1, reason, comment)
            st.toast(_("Thank you."))
    if st.toggle(_("Show what was sent"), key=f"sent {message.id}"):
        with parts.said():
            st.json(house.chat.sent(who, message.id), expanded=2)


def _write(house: House, who: Person, conversation: Conversation | None, _: Texts) -> None:
    said = st.chat_input(_("Write a message"), key="write", accept_file="multiple")
    if not said:
        return
    with parts.said():
        if conversation is None:
            conversation = house.conversations.create(
                who,
                model=st.session_state.get("new model"),
                temporary=bool(st.session_state.get("new temporary")),
            )
            chat_list.open_conversation(conversation.id)
        files = [
            house.conversations.attachments.add(
                who, file.name, file.getvalue(), file.type or "", conversation=conversation.id
            ).id
            for file in said.files
        ]
        compare = st.session_state.get("compare") or []
        if compare:
            own = conversation.model or house.settings.default_model or "rehearsal"
            compare = list(dict.fromkeys([own, *compare]))
        house.chat.send(
            who, conversation.id, said.text or "", attachments=files, door="web", compare=compare
        )
        st.rerun()

"""Answers of several models to one question, side by side, and which of them is better."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.channels.web.views.chat_watch import Growing
from wordmill.chat.types import Message

Texts = Callable[[str], str]


def wanted(house: House, where: Any, _: Texts) -> None:
    """A field for the models that answer beside the conversation's own."""
    names = house.catalog.names()
    if len(names) < 2:
        return
    kept = [one for one in st.session_state.get("compare") or [] if one in names]
    if kept != st.session_state.get("compare", kept):
        st.session_state["compare"] = kept
    where.multiselect(
        _("Compare with"), names, key="compare", width=280, max_selections=5,
        placeholder=_("no other model"), help=_("These models answer too, side by side."),
    )  # fmt: skip


def beside(house: House, who: Person, message: Message) -> list[Message]:
    """The answers of several models that `message` is one of; [] where it stands alone."""
    if message.role != "assistant" or message.siblings < 2:
        return []
    found = house.conversations.siblings(who, message.id)
    return found if len({one.model for one in found}) > 1 else []


def show(
    house: House, who: Person, answers: Sequence[Message], here: Message, _: Texts
) -> list[Growing]:
    """Draw the answers beside each other; each gets a button until one was chosen.

    here: the one with which the conversation goes on.
    """
    prompt = answers[0].parent or ""
    preferences = house.conversations.preferences(who, answers[0].conversation)
    chosen = {one.chosen for one in preferences if one.prompt == prompt}
    ready = [one for one in answers if one.ended and one.text]
    growing = []
    for column, one in zip(st.columns(len(answers), border=True), answers, strict=True):
        with column:
            st.caption(f"**{parts.plain(one.model or '')}**")
            if not one.ended:
                growing.append(Growing(one, st.container()))
                if st.button(_("Stop"), key=f"stop {one.id}", icon=":material/stop_circle:"):
                    with parts.said():
                        house.chat.stop(who, one.id)
                    st.rerun()
                continue
            if one.reasoning:
                with st.expander(_("Reasoning")):
                    st.markdown(parts.markdown(one.reasoning))
            st.markdown(parts.markdown(one.text))
            if one.error:
                st.error(parts.plain(one.error))
            if one.id in chosen:
                st.caption(":material/check: " + _("Chosen as the better one"))
            elif one in ready and len(ready) > 1 and len(ready) == len(answers):
                _choose(house, who, prompt, one, ready, _)
            if one.id == here.id:
                st.caption(_("The conversation goes on with this one."))
    return growing


def _choose(
    house: House, who: Person, prompt: str, one: Message, ready: Sequence[Message], _: Texts
) -> None:
    if st.button(_("This one is better"), key=f"prefer {one.id}", icon=":material/thumb_up:"):
        with parts.said():
            others = [other.id for other in ready if other.id != one.id]
            house.conversations.prefer(who, prompt, one.id, others)
            house.conversations.switch(who, one.id)
            st.rerun()

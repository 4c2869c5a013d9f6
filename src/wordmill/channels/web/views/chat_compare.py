"""Answers of several models to one question, side by side, and which of them is better."""

from collections.abc import Callable, Sequence

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.chat.types import Message

Texts = Callable[[str], str]


def wanted(house: House, _: Texts) -> list[str]:
    """A field for the models that answer beside the conversation's own."""
    names = house.catalog.names()
    if len(names) < 2:
        return []
    return st.multiselect(
        _("Compare with"), names, key="compare",
        help=_("These models answer too, side by side."),
    )  # fmt: skip


def beside(house: House, who: Person, message: Message) -> list[Message]:
    """The answers of several models that `message` is one of; [] where it stands alone."""
    if message.role != "assistant" or message.siblings < 2:
        return []
    found = house.conversations.siblings(who, message.id)
    return found if len({one.model for one in found}) > 1 else []


def show(house: House, who: Person, answers: Sequence[Message], _: Texts) -> None:
    """Draw the answers beside each other; each gets a button until one was chosen."""
    prompt = answers[0].parent or ""
    preferences = house.conversations.preferences(who, answers[0].conversation)
    chosen = {one.chosen for one in preferences if one.prompt == prompt}
    ready = [one for one in answers if one.ended and one.text]
    for column, one in zip(st.columns(len(answers), border=True), answers, strict=True):
        with column:
            st.caption(parts.plain(one.model or ""))
            st.markdown(parts.markdown(one.text))
            if one.error:
                st.error(parts.plain(one.error))
            if one.id in chosen:
                st.caption(":material/check: " + _("Chosen as the better one"))
            elif one in ready and len(ready) > 1 and len(ready) == len(answers):
                _choose(house, who, prompt, one, ready, _)


def _choose(
    house: House, who: Person, prompt: str, one: Message, ready: Sequence[Message], _: Texts
) -> None:
    if st.button(_("This one is better"), key=f"prefer {one.id}", icon=":material/thumb_up:"):
        with parts.said():
            others = [other.id for other in ready if other.id != one.id]
            house.conversations.prefer(who, prompt, one.id, others)
            house.conversations.switch(who, one.id)
            st.rerun()

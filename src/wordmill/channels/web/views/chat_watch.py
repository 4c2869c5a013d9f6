"""Answers that grow, shown as they do: any number of them at once.

What comes is gathered by one task for each answer, and drawn a few times a second. The drawing is
also how a click is noticed: Streamlit stops a script where it draws, so one that waited for a model
in silence would keep everybody from stopping it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.chat.types import Message
from wordmill.providers.base import Place

TICK: Final = 0.12
"""Seconds between two drawings."""
LOOK: Final = 3.0
"""Seconds between two looks whether the session is still good."""
Texts = Callable[[str], str]


class Growing(NamedTuple):
    """An open message, and where on the page it is drawn."""

    message: Message
    where: Any


class _View:
    """One answer on the page."""

    def __init__(self, growing: Growing, waits: bool) -> None:
        self.message, self._waits = growing.message, waits
        self.text, self.reasoning = self.message.text, self.message.reasoning
        self.state = self.message.state
        self._waiting: Place | None = None
        self._drawn: tuple[str, str] | None = None
        with growing.where:
            self._status = st.empty()
            self._thought = st.empty()
            self._shown = st.empty()

    async def listen(self, house: House, who: Person) -> None:
        """Gather what comes; until it ends, or goes on in another message."""
        seen = len(self.text), len(self.reasoning)
        async for event in house.chat.watch_async(who, self.message.id, *seen):
            if event.message not in ("", self.message.id):
                return
            self.state, self._waiting = event.state, event.waiting
            self.text += event.text
            self.reasoning += event.reasoning

    def draw(self, _: Texts) -> None:
        """Draw what there is by now."""
        self._status.caption(self._words(_))
        now = self.text, self.reasoning
        if now == self._drawn:
            return
        if self.reasoning and (self._drawn is None or self.reasoning != self._drawn[1]):
            with self._thought.expander(_("Reasoning"), expanded=not self.text):
                st.markdown(parts.markdown(self.reasoning))
        if self.text:
            # As a whole each time: what is harmless in two pieces may not be in one.
            self._shown.markdown(parts.markdown(self.text))
        self._drawn = now

    def _words(self, _: Texts) -> str:
        if self.state == "waiting" and self._waits:
            return ":material/hourglass: " + _("Waiting for the answer before it.")
        seconds = max(0, int((datetime.now(UTC) - self.message.created).total_seconds()))
        if self.message.role == "tool":
            words = _("The tool is at work, {seconds} s")
        elif self._waiting is not None:
            return f":material/hourglass: {_placed(self._waiting, _)}"
        elif self.text:
            words = _("Writing, {seconds} s")
        else:
            words = _("Thinking, {seconds} s")
        return f":material/pending: {words.format(seconds=seconds)}"


def _placed(waiting: Place, _: Texts) -> str:
    """Where a request stands in the queue of a local model."""
    if waiting.state == "loading":
        words = _("The model is being loaded.")
    else:
        words = _("Number {place} in line.")
    if waiting.seconds is not None:
        words += " " + _("About {seconds} s.")
    return words.format(place=waiting.place, seconds=max(1, round(waiting.seconds or 0)))


def watch(house: House, who: Person, growing: Sequence[Growing], _: Texts) -> None:
    """Show open messages as they grow, until one has ended; then the page is drawn anew.

    Ending this script ends nothing but the showing.
    """
    first = growing[0].message.parent  # answers side by side have the same question
    views = [_View(one, one.message.parent != first) for one in growing]
    asyncio.run(_watch(house, who, views, _))
    st.rerun()


async def _watch(house: House, who: Person, views: Sequence[_View], _: Texts) -> None:
    tasks = [asyncio.create_task(view.listen(house, who)) for view in views]
    looked = time.monotonic()
    try:
        while True:
            for view in views:
                view.draw(_)
            done, _open = await asyncio.wait(
                tasks, timeout=TICK, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                for task in done:
                    task.result()
                return
            if time.monotonic() - looked > LOOK:
                place.person()
                looked = time.monotonic()
    finally:
        for task in tasks:
            task.cancel()

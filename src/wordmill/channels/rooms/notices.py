"""The end of long work, told where it was asked for: a run or a batch, with its picture."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wordmill.accounts import Person
from wordmill.batches.types import ENDED
from wordmill.channels.rooms.base import Incoming
from wordmill.channels.rooms.picture import batch_picture, report_picture
from wordmill.channels.rooms.records import Answer
from wordmill.commands import Outcome
from wordmill.commands.datasets import batch_standing
from wordmill.commands.words import code, count
from wordmill.datasets.report import read_drawn
from wordmill.errors import ChannelClosed, ChannelError, NotFound, WordmillError
from wordmill.runs.show import money

if TYPE_CHECKING:
    from wordmill.channels.rooms.door import Door

ROWS: Final = 1000
"""Of a batch, that its picture is drawn from."""
LOOK: Final = 2.0
"""Seconds between looks at work that has not ended."""
_OPEN: Final = ("created", "running")
_BATCH: Final = "batch_"
"""What the ids of batches begin with, and no run's: it is named in letters, digits and dashes."""

log = logging.getLogger(__name__)


class Notices:
    """What is to be told by one door. Used in its event loop only."""

    def __init__(self, door: "Door") -> None:
        self._door = door
        self._task: asyncio.Task[None] | None = None
        self._more = asyncio.Event()

    async def open(self) -> None:
        """Go on with what an earlier process was asked for."""
        self._more.set()
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Look no more; what is owed stays written down."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def asked(self, incoming: Incoming, person: Person, outcome: Outcome) -> None:
        """Somebody began work there, or asked how it stands: tell its end there."""
        run, batch = outcome.data.get("run"), outcome.data.get("batch")
        state = outcome.data.get("state")
        work = run if state in _OPEN else batch if state and state not in ENDED else None
        if not isinstance(work, str):
            return
        event = f"{incoming.event.partition(' ')[0]} {work}"
        await asyncio.to_thread(
            self._door.records.owe, event, "report", incoming.place, person.id, work
        )
        self._more.set()

    async def _watch(self) -> None:
        while True:
            try:
                self._more.clear()  # before: what is asked for meanwhile is looked at next
                owed = await asyncio.to_thread(self._door.records.owed, "report")
                for one in owed:
                    await self._see_to(one)
                if not owed:
                    await self._more.wait()
            except ChannelClosed:
                return
            except WordmillError as error:
                log.info("%s: work is looked at again: %s", self._door.name, error)
            await asyncio.sleep(LOOK)

    async def _see_to(self, owed: Answer) -> None:
        """Nothing that goes wrong with one keeps the others from being told."""
        try:
            await self._look(owed)
        except WordmillError:
            raise
        except Exception:
            log.exception(
                "%s met a fault of Wordmill in the end of %s", self._door.name, owed.message
            )
            await asyncio.to_thread(self._door.records.change, owed.event, state="failed")

    async def _look(self, owed: Answer) -> None:
        door = self._door
        try:
            person = await asyncio.to_thread(door.owner, owed.person)
            said = await asyncio.to_thread(self._ended, person, owed.message)
        except NotFound:
            await asyncio.to_thread(door.records.change, owed.event, state="failed")
            return
        if said is None:
            return
        cause = owed.event.partition(" ")[0]
        try:
            await door.showing.tell(owed.place, said, owed.nonce, cause)
            drawn = await asyncio.to_thread(self._drawn, person, owed.message)
            if drawn is not None:
                await door.showing.give(
                    owed.place, f"{owed.message}.png", "image/png", drawn, owed.named("p"), cause
                )
        except ChannelClosed:
            raise
        except ChannelError as error:
            log.info("%s: an end cannot be told: %s", door.name, error)
        await asyncio.to_thread(door.records.change, owed.event, state="sent")

    def _ended(self, person: Person, work: str) -> str | None:
        """What to say of work that has ended; None while it has not. Raises NotFound."""
        if work.startswith(_BATCH):
            batch = self._door.house.batches.get(person.id, work)
            said = (
                f"The batch {code(work)} is {batch_standing(batch)}. `--batch {work}` tells more."
            )
            return said if batch.ended else None
        found = self._door.house.desk(person).registry.get(work)
        if found.state in _OPEN:
            return None
        made, failed = found.counts.get("ended", 0), found.counts.get("failed", 0)
        rows = f"{made:,} of {count(found.rows, 'row')} of {found.name}"
        words = [f"The run {code(found.id)} is {found.state}: {rows}."]
        if failed:
            words.append(f"{count(int(failed), 'cell')} failed.")
        if spent := found.counts.get("money", 0):
            words.append(f"It cost {money(float(spent))}.")
        words.append(f"`--run {found.id}` tells more.")
        return " ".join(words)

    def _drawn(self, person: Person, work: str) -> bytes | None:
        """The picture of what was made; None where there is none."""
        try:
            if work.startswith(_BATCH):
                batches = self._door.house.batches
                batch = batches.get(person.id, work)
                if not batch.counts.total:
                    return None
                results = batches.results(person.id, work, limit=ROWS)
                return batch_picture(batch, [_row(one) for one in results])
            dataset = self._door.house.desk(person).dataset(work)
            return report_picture(read_drawn(dataset.folder))
        except WordmillError:  # it made no rows, or is an older version's
            return None


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a batch's line, where that is a chat's; the parts of one that is a JSON object.
    What a server may have sent instead of a completion has none.
    """
    try:
        text = result["response"]["body"]["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return {}
    if not isinstance(text, str):
        return {}
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        parts = text
    return parts if isinstance(parts, dict) else {"answer": parts}

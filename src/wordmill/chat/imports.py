"""Imports as jobs: whoever began one may leave, and a restart goes on with it.

The file is kept in the data folder until its job has ended. An import that is taken up again reads
it from the beginning; what is there already is known, so nothing is made twice.
"""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO, Final

from wordmill.chat.conversations import Conversations
from wordmill.chat.importing import Importer
from wordmill.chat.types import Imported, Owner
from wordmill.database import new_id
from wordmill.errors import Conflict, InvalidInput, WordmillError
from wordmill.jobs import ENDED, Job, Jobs
from wordmill.queues.base import Work
from wordmill.settings import Settings
from wordmill.storage import WholeFile, said

IMPORT: Final = "import"
FOLDER: Final = "imports"
TOLD: Final = 0.3
"""Seconds between words on how far it is."""
LOOK: Final = 0.05
"""Seconds between looks of somebody who waits for the end."""
FORGOTTEN: Final = 3600.0
"""A file is kept first and its job put then; after that long nobody will put it any more."""

log = logging.getLogger(__name__)


class Imports:
    """The imports of everybody. Safe from any thread.

    wake: tells the queue that there is work.
    """

    def __init__(
        self,
        settings: Settings,
        conversations: Conversations,
        jobs: Jobs,
        wake: Callable[[], None],
    ) -> None:
        self._folder = settings.home / FOLDER
        self._most, self._jobs, self._wake = settings.import_bytes, jobs, wake
        self._importer = Importer(conversations)

    def begin(self, person: Owner, file: BinaryIO | Path) -> str:
        """Keep the file and put the job; its id. Raises InvalidInput, StorageError."""
        if isinstance(file, Path):
            with said(file), file.open("rb") as opened:
                return self.begin(person, opened)
        name = new_id()
        with WholeFile(self._folder / name, "Nothing was imported.") as kept:
            shutil.copyfileobj(file, kept)
            if kept.tell() > self._most:
                raise InvalidInput(
                    f"The file holds {kept.tell():,} bytes, more than the {self._most:,} of "
                    "import_bytes."
                )
        (self._folder / name).chmod(0o600)
        job = self._jobs.put(person.id, IMPORT, {"file": name}, subject=f"{IMPORT}:{person.id}")
        self._wake()
        return job

    def take(
        self,
        person: Owner,
        file: BinaryIO | Path,
        progress: Callable[[Imported], None] | None = None,
    ) -> Imported:
        """The same, and wait for the end: see `wait`."""
        return self.wait(person, self.begin(person, file), progress)

    def wait(
        self, person: Owner, job: str, progress: Callable[[Imported], None] | None = None
    ) -> Imported:
        """Wait for the end of an import, while this process or another works on it.

        progress: called when there is something new; what it raises ends the waiting alone.
        Raises InvalidInput for a file of which nothing can be read, Conflict when it is cancelled.
        """
        before = Imported()
        while True:
            found = self._jobs.get(person.id, job)
            now = imported(found)
            if progress is not None and now != before:
                progress(now)
            before = now
            if found.state in ENDED:
                break
            time.sleep(LOOK)
        if found.state == "failed":
            raise InvalidInput(found.error or "The import failed.")
        if found.state == "cancelled":
            raise Conflict("The import was ended. What was imported until then stays.")
        return now

    def work(self, work: Work, person: Owner) -> None:
        """Import the file of a job: for the handler of the kind `import`."""
        file, told = self._folder / work.job.payload["file"], 0.0

        def progress(so_far: Imported) -> None:
            nonlocal told
            if work.stop:
                raise _Ended
            if time.monotonic() - told >= TOLD:
                told = time.monotonic()
                work.lease.progress(**asdict(so_far))

        try:
            done = self._importer.take(person, file, progress)
            work.lease.finish(**asdict(done))
        except _Ended:
            if work.closing or work.lost:
                return  # whoever has the job next needs the file
        except Conflict:
            return
        except WordmillError:
            self._remove(file)
            raise
        self._remove(file)

    def sweep(self) -> int:
        """Remove the files of jobs that ended while nobody worked on them; how many."""
        removed = 0
        if self._folder.is_dir():
            wanted = {job.payload.get("file") for job in self._jobs.open(IMPORT)}
            for file in self._folder.iterdir():
                old = time.time() - file.stat().st_mtime > FORGOTTEN
                if file.name not in wanted and old:
                    self._remove(file)
                    removed += 1
        return removed

    @staticmethod
    def _remove(file: Path) -> None:
        with suppress(FileNotFoundError):
            try:
                file.unlink()
            except PermissionError as error:
                log.warning("an imported file cannot be removed: %s", error)


class _Ended(Exception):
    """The import is to end here."""


def imported(job: Job) -> Imported:
    """How far the job of an import is."""
    known = {field.name for field in fields(Imported)}
    told: dict[str, Any] = {key: value for key, value in job.progress.items() if key in known}
    if "problems" in told:
        told["problems"] = tuple(told["problems"])
    return Imported(**told)

"""What every worker does with a leased job, whatever told it of the job: do it, end it, keep it."""

import logging
import os
import secrets
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from wordmill.errors import Conflict, WordmillError
from wordmill.jobs import Jobs
from wordmill.queues.base import Handler, Work

LEASE: Final = 30.0
"""Seconds that a job stays with a worker that says nothing."""
LOOK: Final = 1.0
"""Seconds between looks for what other processes put, and for what they want to end."""
RENEW: Final = 5
"""Looks between renewals of what is held."""

log = logging.getLogger(__name__)


def do(handlers: Mapping[str, Handler], work: Work) -> None:
    """Do a job in this thread, and write down how it ended. Raises nothing of its own."""
    kind = work.job.kind
    try:
        handlers[kind](work)
        _end(work, None)
    except WordmillError as error:
        _end(work, str(error))
    except Exception:  # a fault of ours must not end the worker
        log.exception("the job %s (%s) met a fault of Wordmill", work.job.id, kind)
        _end(work, "A fault of Wordmill; the log says more.")


def _end(work: Work, error: str | None) -> None:
    try:
        if work.closing and work.stop:
            work.lease.release()
        elif error is not None:
            work.lease.fail(error)
        elif work.given_back and not work.stop:
            work.lease.release()
        elif work.stop:
            work.lease.cancelled()
        else:
            work.lease.finish()
    except Conflict:
        log.info("the job %s had ended, or was another worker's", work.job.id)
    except WordmillError as failure:
        log.error("the end of the job %s could not be written: %s", work.job.id, failure)


def keep(jobs: Jobs, held: Mapping[str, Work], *, renew: bool) -> None:
    """Hear of the held jobs (by id) which of them are lost, and which somebody wants to end.

    renew: hold them longer too.
    """
    try:
        if renew:
            for name in jobs.renew([work.lease for work in held.values()]):
                held[name].lost = True
                held[name].end()
        for name in jobs.unwanted(held):
            held[name].end()
    except WordmillError as error:
        log.error("what is at work could not be looked after: %s", error)


@cache
def machine() -> str:
    """What this process calls its machine: two of one name see each other's processes.

    In containers machines can share a name and not the numbers of their processes.
    """
    try:
        space = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}-{''.join(filter(str.isdigit, space))}"


def worker_name() -> str:
    """This process, as no other one is called: numbers of processes are used again."""
    return _named(os.getpid())  # after a fork it is another one


@cache
def _named(pid: int) -> str:
    return f"{machine()}:{pid}:{secrets.token_hex(4)}"

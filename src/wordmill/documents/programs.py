"""Programs that make documents: pandoc and LibreOffice, each as a process that ends.

pandoc is looked for in the package `pypandoc_binary`, which brings the program in a file of its own
(it is under the GPL, so it is started and nothing is imported), and then in the PATH. LibreOffice
is looked for in the PATH.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from wordmill import processes
from wordmill.errors import ExportError
from wordmill.processes import Ceilings
from wordmill.secrets import scrub

CEILINGS: Final = Ceilings(memory=2 * 1024**3, file=256 * 1024**2)


@cache
def pandoc() -> str | None:
    """Where pandoc is."""
    package = find_spec("pypandoc")
    if package is not None and package.origin is not None:
        brought = Path(package.origin).with_name("files") / "pandoc"
        if os.access(brought, os.X_OK):
            return str(brought)
    return processes.found("pandoc")


@cache
def office() -> str | None:
    """Where LibreOffice is."""
    return processes.found("soffice") or processes.found("libreoffice")


def run(
    program: str,
    arguments: Sequence[str],
    folder: Path,
    given: bytes = b"",
    *,
    seconds: float,
) -> bytes:
    """What a program writes on its output. folder: where it works, and its home.

    Raises ExportError with its own last words when it fails or takes longer than `seconds`.
    """
    name = Path(program).name
    child = subprocess.Popen(  # noqa: S603 (no shell; the program is one of the two above)
        processes.bounded(program, arguments, CEILINGS),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
        env=processes.environment({"HOME": str(folder), "TMPDIR": str(folder)}),
        start_new_session=True,
    )  # fmt: skip
    try:
        told, said = child.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"{name} took longer than {seconds:g} s for this document. A shorter range may do."
        ) from error
    finally:
        if child.poll() is None:  # and whatever it has started
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode:
        words = scrub(said.decode("utf-8", "replace").strip())[-500:]
        raise ExportError(f"{name} made no document (status {child.returncode}): {words}")
    return told

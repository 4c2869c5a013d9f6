"""Where the values of settings lie: files, folders above, the database. Read, not understood."""

import re
import sqlite3
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from wordmill.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def sqlite_url(home: Path) -> str:
    """The address of the database in a data folder."""
    return f"sqlite:///{home.absolute() / 'wordmill.db'}"


def make_engine(url: str) -> "Engine":
    """SQLAlchemy's engine for the address of a database.

    PostgreSQL without a driver named is spoken to with the one that `scale` installs, and one that
    does not answer is given up after 10 seconds. Raises what `sqlalchemy.create_engine` raises.
    """
    from sqlalchemy import create_engine

    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    patience = {"connect_timeout": 10} if url.startswith("postgresql+psycopg:") else {}
    return create_engine(url, connect_args=patience)


def upwards(folder: Path | None) -> Iterator[Path]:
    """The folder (the current one without it) and those above, up to one that holds `.git`."""
    try:
        start = (folder or Path.cwd()).absolute()
    except FileNotFoundError:  # the current folder was removed under us
        return
    for place in (start, *start.parents):
        yield place
        if (place / ".git").exists():
            return


def nearest_file(folders: Iterable[Path], name: str) -> Path | None:
    """The first of these folders' files of that name."""
    return next((place / name for place in folders if (place / name).is_file()), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def read_toml(path: Path) -> dict[str, object]:
    """A TOML file. Raises ConfigError."""
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error


_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", re.ASCII)


def read_env(path: Path) -> dict[str, str]:
    """NAME=value lines; quotes are taken off, ` #` begins a comment, other lines mean nothing."""
    values: dict[str, str] = {}
    for line in _read(path).splitlines():
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            continue
        name, text = match.groups()
        quoted = re.match(r"""(["'])(.*?)\1""", text)
        values[name] = quoted[2] if quoted else re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
    return values


def read_secret(variable: str, path: str) -> str:
    """What stands in the file that a variable names. Raises ConfigError."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable} names {path}, which cannot be read: {error}.") from error


def stored(url: str) -> Iterator[tuple[str, str]]:
    """Names and values that were set in the UI. Raises OSError, sqlite3.Error, ImportError."""
    query = "SELECT name, value FROM settings"
    path = url.removeprefix("sqlite:///")
    if path == url or "?" in path:
        yield from _stored_elsewhere(url, query)
    elif Path(path).is_file():
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
        try:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'settings'").fetchone():
                yield from connection.execute(query)
        finally:
            connection.close()


def _stored_elsewhere(url: str, query: str) -> Iterator[tuple[str, str]]:
    from sqlalchemy import inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = make_engine(url)
        try:
            with engine.connect() as connection:
                if inspect(connection).has_table("settings"):
                    yield from ((name, value) for name, value in connection.execute(text(query)))
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        raise OSError(str(getattr(error, "orig", None) or error).splitlines()[0]) from error


def masked(text: str) -> str:
    """A secret as it may be shown: of an address only the password is hidden."""
    if not text or "://" not in text:
        return "********" if text else ""
    text = re.sub(r"(://[^/@:]*):.*@", r"\1:********@", text)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1********", text)

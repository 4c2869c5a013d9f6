"""How settings are written: each kind reads a text, and says what it expects."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

Plain: TypeAlias = str | int | float | bool | Path | tuple[str, ...] | None
"""What a setting can hold."""


class Kind(NamedTuple):
    """How a value is written: `parse` raises ValueError for a text that is not `expects`."""

    expects: str
    parse: Callable[[str], Plain]


class Row(NamedTuple):
    """The rest of a table row.

    secret: masked wherever it is shown, and also read from the file that WORDMILL_NAME_FILE names.
    early: needed before the database is open, so it cannot be set in the UI.
    """

    kind: Kind
    unit: str
    help: str
    secret: bool = False
    early: bool = False


def parse_bytes(text: str) -> int:
    """`16MiB`, `2GB` or `1048576` as bytes; ValueError for anything else.

    KB, MB, GB and TB are powers of 1000, KiB to TiB of 1024; case and a space do not matter.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", text.strip().lower())
    if match is None:
        raise ValueError(text)
    number, prefix, binary = match.groups()
    power = " kmgt".index(prefix or " ")
    factor: int = (1024 if binary else 1000) ** power
    return round(float(number) * factor)


def parse_seconds(text: str) -> float:
    """`30d`, `12h`, `5m`, `2w`, `90s`, `200ms` or `90` as seconds; ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?", text.strip().lower())
    if match is None:
        raise ValueError(text)
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
    return float(match[1]) * units[match[2] or "s"]


def parse_concurrency(text: str) -> int | None:
    """A whole number of 1 or more, or None for `auto`; ValueError for anything else."""
    return None if text.strip().lower() == "auto" else _at_least(int(text), 1)


def _at_least(number: int, least: int) -> int:
    if number < least:
        raise ValueError(number)
    return number


def whole(least: int) -> Kind:
    """A whole number that is not below `least`."""
    return Kind(f"a whole number of {least} or more", lambda text: _at_least(int(text), least))


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,99}", text):
        raise ValueError(text)
    return text


def _positive(text: str) -> float:
    number = parse_seconds(text)
    if number <= 0:
        raise ValueError(text)
    return number


def _days(text: str) -> float | None:
    number = float(text) if text else None
    if number is not None and not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _size(text: str) -> int | None:
    return parse_bytes(text) if text else None


def _flag(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    try:
        return words[text.strip().lower()]
    except KeyError as error:
        raise ValueError(text) from error


def _level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError(text)
    return text.lower()


def _log_form(text: str) -> str:
    if text.lower() not in ("json", "pretty"):
        raise ValueError(text)
    return text.lower()


def _address(text: str) -> str | None:
    if text and not re.match(r"https?://[^/]", text):
        raise ValueError(text)
    return text or None


def _reached(schemes: str) -> Callable[[str], str]:
    """An address with one of these schemes (a pattern), or nothing."""

    def parse(text: str) -> str:
        if text and not re.match(rf"(?:{schemes})://[^/]", text):
            raise ValueError(text)
        return text

    return parse


def _some(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text.strip()


def _sign_up(text: str) -> str:
    if text.lower() not in ("closed", "pending", "open"):
        raise ValueError(text)
    return text.lower()


def _drive_scope(text: str) -> str:
    if text.lower() not in ("drive.file", "drive"):
        raise ValueError(text)
    return text.lower()


def _batch_urls(text: str) -> str:
    if text.lower() not in ("nobody", "admins", "members"):
        raise ValueError(text)
    return text.lower()


def _each(pattern: str) -> Callable[[str], tuple[str, ...]]:
    """Texts of a form (a pattern), with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(one.strip() for one in text.split(",") if one.strip())
        if not all(re.fullmatch(pattern, one) for one in found):
            raise ValueError(text)
        return found

    return parse


def _long(text: str) -> str | None:
    if text and len(text) < 32:
        raise ValueError(text)
    return text or None


def _folder(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text).expanduser()


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(text)
    return number


SHARE = Kind("a number from 0 to 1", _share)
FLAG = Kind("true or false", _flag)
SECONDS = Kind("a time above 0, as `10`, `200ms` or `5m`", _positive)
PAUSE = Kind("a time, as `0`, `10` or `5m`", parse_seconds)
BYTES = Kind("a size, as `16MiB` or `1048576`", lambda text: _at_least(parse_bytes(text), 1))
SIZE_OR_NONE = Kind(
    "a size, as `2GB`, or nothing", lambda text: parse_bytes(text) if text else None
)
DAYS_OR_NONE = Kind("a number above 0, or nothing", _days)
LINES_OR_NONE = Kind(
    "a whole number of 1 or more, or nothing",
    lambda text: _at_least(int(text), 1) if text else None,
)
PREFIXED = Kind("small letters, digits, - and _", _prefix)
CONCURRENCY = Kind("a whole number of 1 or more, or `auto`", parse_concurrency)
FOLDER = Kind("a folder", _folder)
FOLDER_OR_NONE = Kind("a path, or nothing", lambda text: _folder(text) if text else None)
TEXT = Kind("a text", _some)
TEXT_OR_NONE = Kind("a text, or nothing", lambda text: text or None)
URL = Kind("an SQLAlchemy URL", lambda text: text)
BROKER = Kind("an address, as amqp://user:password@host:5672/, or nothing", _reached("amqps?"))
SEARCH = Kind("an address, as https://user:password@host:9200, or nothing", _reached("https?"))
REDIS = Kind("an address, as redis://:password@host:6379/0, or nothing", _reached("rediss?"))
BUCKET = Kind("a place, as s3://bucket/path, or nothing", _reached("s3"))
ADDRESS_OR_NONE = Kind("an http:// or https:// address, or nothing", _address)
LOG_FORM = Kind("json or pretty", _log_form)
LEVEL = Kind("debug, info, warning or error", _level)
SIGN_UP = Kind("closed, pending or open", _sign_up)
DRIVE_SCOPE = Kind("drive.file or drive", _drive_scope)
BATCH_URLS = Kind("nobody, admins or members", _batch_urls)
BATCH_KEYS = Kind(
    "variables and their hosts, as NAME@api.host with commas between, or nothing",
    _each(r"[A-Za-z_][A-Za-z0-9_]*@[A-Za-z0-9.:\[\]-]+"),
)
MODULES = Kind("modules with commas between, or nothing", _each(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"))
SECRET_KEY = Kind("at least 32 characters, or nothing", _long)
NAMES = Kind(
    "names with commas between, or nothing",
    lambda text: tuple(name.strip().lower() for name in text.split(",") if name.strip()),
)

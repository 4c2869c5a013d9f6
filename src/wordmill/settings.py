"""Every setting of Wordmill: one table, read once at start.

The table is the class `Settings`: a row is a field with its type, its default and a `Row` that
says how it is written, its unit and what it is for. A value comes from the first of these that
gives one:

    command line > environment (WORDMILL_NAME) > .env > WORDMILL_NAME_FILE (secrets only)
    > wordmill.toml > set in the UI (the database) > default

`.env` and `wordmill.toml` are looked for in the current folder and its parents, up to a folder
that holds `.git`. The models of a project (`[models.NAME]` in wordmill.toml) are handed on as
they stand; `models` checks them.
"""

import os
import re
import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple, TypeAlias, get_type_hints
from urllib.parse import quote

import platformdirs

from wordmill.errors import ConfigError, UnknownName, nearest

PREFIX = "WORDMILL_"
PROJECT_FILE = "wordmill.toml"

Plain: TypeAlias = str | int | float | bool | Path | None
"""What a setting can hold."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


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


class Setting(NamedTuple):
    """A row of the table, whole. `default` is as it is shown."""

    name: str
    row: Row
    default: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()


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


def _whole(least: int) -> Kind:
    return Kind(f"a whole number of {least} or more", lambda text: _at_least(int(text), least))


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


def _folder(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text).expanduser()


_FLAG = Kind("true or false", _flag)
_SECONDS = Kind("a time above 0, as `10`, `200ms` or `5m`", _positive)
_PAUSE = Kind("a time, as `0`, `10` or `5m`", parse_seconds)
_BYTES = Kind("a size, as `16MiB` or `1048576`", lambda text: _at_least(parse_bytes(text), 1))
_SIZE_OR_NONE = Kind(
    "a size, as `2GB`, or nothing", lambda text: parse_bytes(text) if text else None
)
_DAYS_OR_NONE = Kind("a number above 0, or nothing", _days)
_CONCURRENCY = Kind("a whole number of 1 or more, or `auto`", parse_concurrency)
_FOLDER = Kind("a folder", _folder)
_TEXT_OR_NONE = Kind("a text, or nothing", lambda text: text or None)
_URL = Kind("an SQLAlchemy URL", lambda text: text)
_LEVEL = Kind("debug, info, warning or error", _level)


def _home() -> Path:
    return platformdirs.user_data_path("wordmill", appauthor=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Settings:
    """The values, as attributes. Make one with `load`."""

    home: Annotated[
        Path,
        Row(_FOLDER, "", "The data folder: database, cache and the records of runs.", early=True),
    ] = field(default_factory=_home)
    database_url: Annotated[
        str,
        Row(
            _URL,
            "",
            "Where models, runs and jobs are kept; empty for an SQLite file in the data folder.",
            secret=True,
            early=True,
        ),
    ] = ""
    default_model: Annotated[
        str | None, Row(_TEXT_OR_NONE, "", "The model of recipes that name none.")
    ] = None
    default_max_tokens: Annotated[
        int, Row(_whole(1), "tokens", "The bound on an answer where a recipe sets none.")
    ] = 2048
    concurrency: Annotated[
        int | None,
        Row(_CONCURRENCY, "requests", "At once, for models that say nothing else; `auto` adapts."),
    ] = None
    max_concurrency: Annotated[
        int, Row(_whole(1), "requests", "The most that `auto` sends at once to a model.")
    ] = 2048
    connect_seconds: Annotated[float, Row(_SECONDS, "seconds", "The wait for a connection.")] = 10.0
    first_byte_seconds: Annotated[
        float, Row(_SECONDS, "seconds", "The wait for an answer to begin.")
    ] = 120.0
    total_seconds: Annotated[float, Row(_SECONDS, "seconds", "The wait for an answer to end.")] = (
        600.0
    )
    deadline_seconds: Annotated[
        float, Row(_SECONDS, "seconds", "The time of a request with all its attempts and pauses.")
    ] = 1800.0
    attempts: Annotated[
        int, Row(_whole(1), "attempts", "How often a request is sent before it counts as failed.")
    ] = 6
    max_reply_bytes: Annotated[
        int, Row(_BYTES, "bytes", "A longer reply is cut off and counts as failed.")
    ] = 16 * 1024 * 1024
    in_doubt: Annotated[
        int,
        Row(
            _whole(0),
            "requests",
            "At most this many may be sent and not yet safe on disk; 0 leaves it to the engine.",
        ),
    ] = 0
    cache: Annotated[bool, Row(_FLAG, "", "Whether answers are kept for later runs.")] = True
    cache_days: Annotated[
        float | None,
        Row(_DAYS_OR_NONE, "days", "`wordmill cache prune` forgets older answers; empty for none."),
    ] = None
    cache_bytes: Annotated[
        int | None,
        Row(
            _SIZE_OR_NONE,
            "bytes",
            "`wordmill cache prune` shrinks it to that; empty for none.",
        ),
    ] = None
    grace_seconds: Annotated[
        float, Row(_PAUSE, "seconds", "After Ctrl-C, the wait for answers that are on their way.")
    ] = 10.0
    log_level: Annotated[str, Row(_LEVEL, "", "The least grave messages that are logged.")] = (
        "warning"
    )

    project: Path | None = None
    """The wordmill.toml that was read."""
    models: Mapping[str, object] = field(default_factory=dict)
    """Its [models.NAME] tables, as they stand."""
    warnings: tuple[str, ...] = ()
    """Sentences on names that mean nothing, for the person at the command line."""
    _origins: Mapping[str, str] = field(default_factory=dict)
    _variables: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Settings(home={str(self.home)!r})"

    def origin(self, name: str) -> str:
        """Where a value comes from, in words: `default`, `environment (WORDMILL_HOME)`, a path."""
        if name not in _ROWS:
            raise UnknownName("setting", name, _ROWS)
        return self._origins.get(name, "default")

    def shown(self, name: str) -> str:
        """A value as it is written, secrets masked."""
        if name not in _ROWS:
            raise UnknownName("setting", name, _ROWS)
        value: Plain = getattr(self, name)
        text = written(name, value)
        return _masked(text) if _ROWS[name].secret else text

    @property
    def cache_file(self) -> Path:
        """The engine's cache between runs."""
        return self.home / "cache.db"

    def secret(self, variable: str) -> str | None:
        """The value of a variable that holds a key, read now; None where it is not set or empty.

        Looked for in the environment, in .env, and in the file that VARIABLE_FILE names.
        Raises ConfigError when that file cannot be read.
        """
        value = os.environ.get(variable) or self._variables.get(variable)
        if value:
            return value
        path = os.environ.get(variable + "_FILE") or self._variables.get(variable + "_FILE")
        return (_read_secret(variable + "_FILE", path) or None) if path else None


def _rows() -> dict[str, Row]:
    hints = get_type_hints(Settings, include_extras=True)
    return {
        item.name: hint.__metadata__[0]
        for item in fields(Settings)
        if isinstance(getattr(hint := hints[item.name], "__metadata__", (None,))[0], Row)
    }


_ROWS: Mapping[str, Row] = _rows()


def table() -> Iterator[Setting]:
    """The rows, in order."""
    for item in fields(Settings):
        if item.name in _ROWS:
            default = "" if item.name == "home" else written(item.name, item.default)
            yield Setting(item.name, _ROWS[item.name], default)


def written(name: str, value: object) -> str:
    """A value as one would write it in the environment."""
    if value is None:
        return "auto" if name == "concurrency" else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def load(
    command_line: Mapping[str, str | None] = _NOTHING, *, folder: Path | None = None
) -> Settings:
    """Read all sources once.

    command_line: values as a person wrote them; None is one that was not given.
    folder: where the search for .env and wordmill.toml begins; the current folder without it.
    Raises UnknownName for a name on the command line, ConfigError for a value that does not parse
    and for a file that cannot be read. Unknown variables and keys only become `warnings`.
    """
    folders = tuple(_upwards(folder))
    warnings: list[str] = []
    env_path = _nearest_file(folders, ".env")
    env_file = _read_env(env_path) if env_path else {}
    project = _nearest_file(folders, PROJECT_FILE)
    document = _read_toml(project) if project else {}
    models = document.pop("models", {})
    if not isinstance(models, dict):
        raise ConfigError(f"{project}: `models` must be tables, as [models.NAME].")

    texts: dict[str, tuple[str, str]] = {}
    if project:
        texts |= _from_toml(document, project, warnings)
    texts |= _from_files({**env_file, **os.environ})
    texts |= _from_variables(env_file, str(env_path), warnings)
    texts |= _from_variables(os.environ, "", warnings)
    for name, text in command_line.items():
        if name not in _ROWS:
            raise UnknownName("setting", name, _ROWS)
        if text is not None:
            texts[name] = (text, "command line")

    values = _parse(texts)
    home = values.get("home")
    url = values.get("database_url") or sqlite_url(home if isinstance(home, Path) else _home())
    stored = _from_database(str(url), warnings)
    values = _parse({name: text for name, text in stored.items() if name not in values}) | values
    return Settings(
        **{**values, "database_url": url},  # type: ignore[arg-type]  # each parsed by its own row
        project=project,
        models=models,
        warnings=tuple(warnings),
        _origins={name: origin for name, (_, origin) in (stored | texts).items()},
        _variables=env_file,
    )


def sqlite_url(home: Path) -> str:
    """The address of the database in a data folder."""
    return f"sqlite:///{home.absolute() / 'wordmill.db'}"


def markdown() -> str:
    """The table for docs/settings.md."""
    lines = [
        "| setting | environment | default | unit | what it is |",
        "|---|---|---|---|---|",
    ]
    for name, row, default in table():
        shown = f"`{default}`" if default else "the system's" if name == "home" else ""
        words = [row.help, f"Written as {row.kind.expects}."]
        if row.secret:
            words.append(f"Also `{PREFIX}{name.upper()}_FILE`: a file that holds it.")
        if row.early:
            words.append("Not in the UI.")
        cells = [f"`{name}`", f"`{PREFIX}{name.upper()}`", shown, row.unit, " ".join(words)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _parse(texts: Mapping[str, tuple[str, str]]) -> dict[str, Plain]:
    values: dict[str, Plain] = {}
    for name, (text, origin) in texts.items():
        row = _ROWS[name]
        try:
            values[name] = row.kind.parse(text)
        except ValueError as error:
            shown = "what it is" if row.secret else repr(text)
            raise ConfigError(
                f"{name} must be {row.kind.expects}, not {shown} (from: {origin})."
            ) from error
    return values


def _upwards(folder: Path | None) -> Iterator[Path]:
    try:
        start = (folder or Path.cwd()).absolute()
    except FileNotFoundError:  # the current folder was removed under us
        return
    for place in (start, *start.parents):
        yield place
        if (place / ".git").exists():
            return


def _nearest_file(folders: Iterable[Path], name: str) -> Path | None:
    return next((place / name for place in folders if (place / name).is_file()), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error


_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", re.ASCII)


def _read_env(path: Path) -> dict[str, str]:
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


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable} names {path}, which cannot be read: {error}.") from error


def _from_variables(
    variables: Mapping[str, str], path: str, warnings: list[str]
) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for variable in sorted(variables):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in _FILE_VARIABLES:
            continue
        if name in _ROWS:
            found[name] = (variables[variable], path or f"environment ({variable})")
        else:
            where = f"{path} sets" if path else "The environment has"
            known = [PREFIX + near.upper() for near in get_close_matches(name, _ROWS)]
            warnings.append(f"{where} {variable}, which means nothing{nearest(variable, known)}")
    return found


_FILE_VARIABLES = {
    f"{PREFIX}{name.upper()}_FILE": name for name, row in _ROWS.items() if row.secret
}


def _from_files(variables: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        name: (_read_secret(variable, variables[variable]), f"{variables[variable]} ({variable})")
        for variable, name in _FILE_VARIABLES.items()
        if variables.get(variable)
    }


def _from_toml(
    document: Mapping[str, object], path: Path, warnings: list[str]
) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name, value in document.items():
        if name not in _ROWS:
            known = (*_ROWS, "models")
            warnings.append(f"{path} has {name!r}, which means nothing{nearest(name, known)}")
        elif isinstance(value, str | int | float):
            text = written(name, value)
            if name == "home":  # relative to the file, wherever the command is typed
                text = str(path.parent / Path(text).expanduser())
            found[name] = (text, str(path))
        else:
            raise ConfigError(f"{path}: {name} must be {_ROWS[name].kind.expects}, not {value!r}.")
    return found


def _from_database(url: str, warnings: list[str]) -> dict[str, tuple[str, str]]:
    """What was set in the UI; nothing where there is no database yet."""
    try:
        pairs = list(_stored(url))
    except (OSError, sqlite3.Error, ImportError) as error:
        warnings.append(f"The settings in {_masked(url)} could not be read: {error}.")
        return {}
    found: dict[str, tuple[str, str]] = {}
    for name, text in pairs:
        if name in _ROWS and not _ROWS[name].early:
            found[name] = (text, "set in the UI")
    return found


def _stored(url: str) -> Iterator[tuple[str, str]]:
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
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                if inspect(connection).has_table("settings"):
                    yield from ((name, value) for name, value in connection.execute(text(query)))
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _masked(text: str) -> str:
    """A secret as it may be shown: of an address only the password is hidden."""
    if not text or "://" not in text:
        return "********" if text else ""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:********@", text)

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
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple, get_type_hints

import platformdirs

from wordmill.errors import ConfigError, UnknownName, nearest
from wordmill.settings.kinds import (
    ADDRESS_OR_NONE,
    BYTES,
    CONCURRENCY,
    DAYS_OR_NONE,
    FLAG,
    FOLDER,
    LEVEL,
    LOG_FORM,
    NAMES,
    PAUSE,
    SECONDS,
    SECRET_KEY,
    SHARE,
    SIGN_UP,
    SIZE_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    URL,
    Kind,
    Plain,
    Row,
    parse_bytes,
    parse_concurrency,
    parse_seconds,
    whole,
)
from wordmill.settings.sources import (
    make_engine,
    masked,
    nearest_file,
    read_env,
    read_secret,
    read_toml,
    sqlite_url,
    stored,
    upwards,
)

__all__ = [
    "PREFIX",
    "PROJECT_FILE",
    "Kind",
    "Plain",
    "Row",
    "Setting",
    "Settings",
    "load",
    "make_engine",
    "markdown",
    "parse_bytes",
    "parse_concurrency",
    "parse_seconds",
    "sqlite_url",
    "table",
    "written",
]

PREFIX = "WORDMILL_"
PROJECT_FILE = "wordmill.toml"

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Setting(NamedTuple):
    """A row of the table, whole. `default` is as it is shown."""

    name: str
    row: Row
    default: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()


def _home() -> Path:
    return platformdirs.user_data_path("wordmill", appauthor=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Settings:
    """The values, as attributes. Make one with `load`."""

    home: Annotated[
        Path,
        Row(FOLDER, "", "The data folder: database, cache and the records of runs.", early=True),
    ] = field(default_factory=_home)
    database_url: Annotated[
        str,
        Row(
            URL,
            "",
            "Where models, runs and jobs are kept; empty for an SQLite file in the data folder.",
            secret=True,
            early=True,
        ),
    ] = ""
    default_model: Annotated[
        str | None, Row(TEXT_OR_NONE, "", "The model of recipes that name none.")
    ] = None
    default_max_tokens: Annotated[
        int, Row(whole(1), "tokens", "The bound on an answer where a recipe sets none.")
    ] = 2048
    concurrency: Annotated[
        int | None,
        Row(CONCURRENCY, "requests", "At once, for models that say nothing else; `auto` adapts."),
    ] = None
    max_concurrency: Annotated[
        int, Row(whole(1), "requests", "The most that `auto` sends at once to a model.")
    ] = 2048
    connect_seconds: Annotated[float, Row(SECONDS, "seconds", "The wait for a connection.")] = 10.0
    first_byte_seconds: Annotated[
        float, Row(SECONDS, "seconds", "The wait for an answer to begin.")
    ] = 120.0
    total_seconds: Annotated[float, Row(SECONDS, "seconds", "The wait for an answer to end.")] = (
        600.0
    )
    deadline_seconds: Annotated[
        float, Row(SECONDS, "seconds", "The time of a request with all its attempts and pauses.")
    ] = 1800.0
    attempts: Annotated[
        int, Row(whole(1), "attempts", "How often a request is sent before it counts as failed.")
    ] = 6
    max_reply_bytes: Annotated[
        int, Row(BYTES, "bytes", "A longer reply is cut off and counts as failed.")
    ] = 16 * 1024 * 1024
    in_doubt: Annotated[
        int,
        Row(
            whole(0),
            "requests",
            "At most this many may be sent and not yet safe on disk; 0 leaves it to the engine.",
        ),
    ] = 0
    cache: Annotated[bool, Row(FLAG, "", "Whether answers are kept for later runs.")] = True
    cache_days: Annotated[
        float | None,
        Row(DAYS_OR_NONE, "days", "`wordmill cache prune` forgets older answers; empty for none."),
    ] = None
    cache_bytes: Annotated[
        int | None,
        Row(
            SIZE_OR_NONE,
            "bytes",
            "`wordmill cache prune` shrinks it to that; empty for none.",
        ),
    ] = None
    grace_seconds: Annotated[
        float, Row(PAUSE, "seconds", "After Ctrl-C, the wait for answers that are on their way.")
    ] = 10.0
    log_level: Annotated[
        str, Row(LEVEL, "", "The least grave messages that `wordmill serve` logs.")
    ] = "info"
    log_format: Annotated[
        str,
        Row(LOG_FORM, "", "How it logs: `pretty` is for people, `json` one object a line."),
    ] = "pretty"
    otlp_endpoint: Annotated[
        str | None,
        Row(
            ADDRESS_OR_NONE,
            "",
            "The OpenTelemetry collector that is sent spans, over HTTP; empty for none.",
            early=True,
        ),
    ] = None
    message_characters: Annotated[
        int, Row(whole(1), "characters", "The most text in one message of a conversation.")
    ] = 4_000_000
    attachment_bytes: Annotated[
        int, Row(BYTES, "bytes", "A larger file cannot be attached to a message.")
    ] = 20 * 1024 * 1024
    person_attachment_bytes: Annotated[
        int, Row(BYTES, "bytes", "All files together that a person has attached.")
    ] = 5 * 1024 * 1024 * 1024
    import_bytes: Annotated[
        int,
        Row(BYTES, "bytes", "The most that a file of conversations may hold, once unpacked."),
    ] = 2 * 1024 * 1024 * 1024
    answers_at_once: Annotated[
        int,
        Row(whole(1), "answers", "Made at the same time by one process; further ones wait."),
    ] = 32
    titles: Annotated[bool, Row(FLAG, "", "Whether a model gives each conversation its title.")] = (
        True
    )
    sign_up: Annotated[
        str,
        Row(
            SIGN_UP,
            "",
            "Whether people may make an account themselves; `pending`: an admin lets each in.",
        ),
    ] = "closed"
    admin_email: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "The first admin, made at start while nobody is.", early=True),
    ] = None
    admin_password: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "The first admin's password.", secret=True, early=True),
    ] = None
    session_idle: Annotated[
        float, Row(SECONDS, "seconds", "A session that is not used for that long ends.")
    ] = 12 * 3600.0
    session_longest: Annotated[
        float, Row(SECONDS, "seconds", "Every session ends after that, used or not.")
    ] = 7 * 86400.0
    secret_key: Annotated[
        str | None,
        Row(
            SECRET_KEY,
            "",
            "What stored keys are sealed with, instead of the file secret.key in the data folder.",
            secret=True,
            early=True,
        ),
    ] = None
    host: Annotated[
        str, Row(TEXT, "", "The address that `wordmill serve` listens on.", early=True)
    ] = "127.0.0.1"
    port: Annotated[
        int, Row(whole(1), "", "The port that `wordmill serve` listens on.", early=True)
    ] = 8501
    hosts: Annotated[
        tuple[str, ...],
        Row(
            NAMES,
            "",
            "Names by which browsers reach this server; empty: any name, but only this machine's "
            "own where it listens on this machine alone.",
            early=True,
        ),
    ] = ()
    metrics_token: Annotated[
        str | None,
        Row(
            TEXT_OR_NONE,
            "",
            "What Prometheus sends as a bearer token to /metrics; without it nothing is shown.",
            secret=True,
            early=True,
        ),
    ] = None
    oidc_issuer: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "The address of an OpenID provider by which people may sign in."),
    ] = None
    oidc_client_id: Annotated[
        str | None, Row(TEXT_OR_NONE, "", "What that provider calls this Wordmill.")
    ] = None
    oidc_client_secret: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "What it is known by there.", secret=True, early=True),
    ] = None
    oidc_name: Annotated[
        str, Row(TEXT, "", "What the button of that sign-in says: the provider's name.")
    ] = "OpenID"
    oidc_sign_up: Annotated[
        str,
        Row(SIGN_UP, "", "As `sign_up`, for people whom that provider knows and Wordmill not."),
    ] = "pending"
    oidc_link: Annotated[
        bool,
        Row(
            FLAG,
            "",
            "Whether a verified e-mail address of that provider opens the account of the same "
            "address. Its password, sessions and API keys end then.",
        ),
    ] = False

    batch_file_bytes: Annotated[
        int, Row(BYTES, "bytes", "A longer file of requests cannot be sent.")
    ] = 16 * 1024 * 1024 * 1024
    batch_lines: Annotated[int, Row(whole(1), "lines", "The most requests of one batch.")] = (
        20_000_000
    )
    batch_line_bytes: Annotated[
        int, Row(BYTES, "bytes", "A longer line of a batch is a bad one.")
    ] = 4 * 1024 * 1024
    batch_bad_share: Annotated[
        float, Row(SHARE, "", "With a greater share of bad lines the whole batch is refused.")
    ] = 0.5
    batches_at_once: Annotated[
        int, Row(whole(1), "batches", "Worked on at the same time by one process.")
    ] = 8

    plain_commands: Annotated[
        bool,
        Row(
            FLAG,
            "",
            "Whether a message that may mean a command, as `use only the last ten messages`, is "
            "shown to the model and proposed as one.",
        ),
    ] = True
    server: Annotated[
        str | None,
        Row(
            TEXT_OR_NONE,
            "",
            "The address of the Wordmill that `wordmill chat` and `wordmill ask` talk to; empty is "
            "this machine's data folder.",
            early=True,
        ),
    ] = None
    server_key: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "The API key for that server.", secret=True, early=True),
    ] = None

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
        return masked(text) if _ROWS[name].secret else text

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
        return (read_secret(variable + "_FILE", path) or None) if path else None


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
    if isinstance(value, tuple):
        return ",".join(value)
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
    folders = tuple(upwards(folder))
    warnings: list[str] = []
    env_path = nearest_file(folders, ".env")
    env_file = read_env(env_path) if env_path else {}
    project = nearest_file(folders, PROJECT_FILE)
    document = read_toml(project) if project else {}
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
        name: (read_secret(variable, variables[variable]), f"{variables[variable]} ({variable})")
        for variable, name in _FILE_VARIABLES.items()
        if variables.get(variable)
    }


def _from_toml(
    document: Mapping[str, object], path: Path, warnings: list[str]
) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name, value in document.items():
        if name not in _ROWS:
            near = get_close_matches(name, (*_ROWS, "models"), cutoff=0.5)
            hint = nearest(name, near) if near else ". `wordmill settings` shows what there is."
            warnings.append(f"{path} has {name!r}, which means nothing{hint}")
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
        pairs = list(stored(url))
    except (OSError, sqlite3.Error, ImportError) as error:
        warnings.append(f"The settings in {masked(url)} could not be read: {error}.")
        return {}
    found: dict[str, tuple[str, str]] = {}
    for name, text in pairs:
        if name in _ROWS and not _ROWS[name].early:
            found[name] = (text, "set in the UI")
    return found

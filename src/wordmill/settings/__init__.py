"""Every setting of Wordmill: one table, read once at start.

The table is in `rows`. A value comes from the first of these that gives one:

    command line > environment (WORDMILL_NAME) > .env > WORDMILL_NAME_FILE (secrets only)
    > wordmill.toml > a platform's own names (PORT) > set in the UI (the database) > default

`.env` and `wordmill.toml` are looked for in the current folder and its parents, up to a folder
that holds `.git`. The models of a project (`[models.NAME]` in wordmill.toml) are handed on as
they stand; `models` checks them.
"""

import os
import sqlite3
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from wordmill.errors import ConfigError, UnknownName, nearest
from wordmill.settings.kinds import (
    Kind,
    Plain,
    Row,
    parse_bytes,
    parse_concurrency,
    parse_seconds,
)
from wordmill.settings.platform import offered
from wordmill.settings.rows import PREFIX, ROWS, Setting, Settings, own_home, table, written
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
    "parse_bytes",
    "parse_concurrency",
    "parse_seconds",
    "sqlite_url",
    "table",
    "written",
]

PROJECT_FILE = "wordmill.toml"

_OF_THE_CONSUMER = PREFIX + "CONSUMER_"
"""How settings begin that `wordmill-consumer` alone has, and checks itself."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


def load(
    command_line: Mapping[str, str | None] = _NOTHING,
    *,
    folder: Path | None = None,
    serving: bool = False,
) -> Settings:
    """Read all sources once.

    command_line: values as a person wrote them; None is one that was not given.
    folder: where the search for .env and wordmill.toml begins; the current folder without it.
    serving: what a platform offers under its own names counts too, where nothing else is given.
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
        if name not in ROWS:
            raise UnknownName("setting", name, ROWS)
        if text is not None:
            texts[name] = (text, "command line")

    texts |= offered(os.environ, serving, texts)
    values = _parse(texts)
    home = values.get("home")
    url = values.get("database_url") or sqlite_url(home if isinstance(home, Path) else own_home())
    stored = _from_database(str(url), warnings)
    texts = stored | texts
    values = _parse(texts)
    return Settings(
        **{**values, "database_url": url},  # type: ignore[arg-type]  # each parsed by its own row
        project=project,
        models=models,
        warnings=tuple(warnings),
        _origins={name: origin for name, (_, origin) in texts.items()},
        _variables=env_file,
    )


def _parse(texts: Mapping[str, tuple[str, str]]) -> dict[str, Plain]:
    values: dict[str, Plain] = {}
    for name, (text, origin) in texts.items():
        row = ROWS[name]
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
        if variable.startswith(_OF_THE_CONSUMER):
            continue
        if name in ROWS:
            found[name] = (variables[variable], path or f"environment ({variable})")
        else:
            where = f"{path} sets" if path else "The environment has"
            known = [PREFIX + near.upper() for near in get_close_matches(name, ROWS)]
            warnings.append(f"{where} {variable}, which means nothing{nearest(variable, known)}")
    return found


_FILE_VARIABLES = {f"{PREFIX}{name.upper()}_FILE": name for name, row in ROWS.items() if row.secret}


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
        if name not in ROWS:
            near = get_close_matches(name, (*ROWS, "models"), cutoff=0.55)
            hint = nearest(name, near) if near else ". `wordmill settings` shows what there is."
            warnings.append(f"{path} has {name!r}, which means nothing{hint}")
        elif isinstance(value, str | int | float):
            text = written(name, value)
            if name == "home":  # relative to the file, wherever the command is typed
                text = str(path.parent / Path(text).expanduser())
            found[name] = (text, str(path))
        else:
            raise ConfigError(f"{path}: {name} must be {ROWS[name].kind.expects}, not {value!r}.")
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
        if name in ROWS and not ROWS[name].early:
            found[name] = (text, "set in the UI")
    return found

"""The table of settings: its rows, and how a value of them is shown.

A row is a field of `Settings` with its type, its default and a `Row` that says how it is written,
its unit and what it is for.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, NamedTuple, get_type_hints

import platformdirs

from wordmill.errors import UnknownName
from wordmill.settings.kinds import (
    ADDRESS_OR_NONE,
    BATCH_KEYS,
    BATCH_URLS,
    BROKER,
    BUCKET,
    BYTES,
    CONCURRENCY,
    DAYS_OR_NONE,
    DRIVE_SCOPE,
    FLAG,
    FOLDER,
    FOLDER_OR_NONE,
    LEVEL,
    LINES_OR_NONE,
    LOG_FORM,
    MODULES,
    NAMES,
    PAUSE,
    PREFIXED,
    REDIS,
    SEARCH,
    SECONDS,
    SECRET_KEY,
    SHARE,
    SIGN_UP,
    SIZE_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    URL,
    Plain,
    Row,
    whole,
)
from wordmill.settings.sources import masked, read_secret

PREFIX = "WORDMILL_"


class Setting(NamedTuple):
    """A row of the table, whole. `default` is as it is shown."""

    name: str
    row: Row
    default: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()


def own_home() -> Path:
    """The data folder where nobody says another: where the system keeps such things."""
    return platformdirs.user_data_path("wordmill", appauthor=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Settings:
    """The values, as attributes. Make one with `load`."""

    home: Annotated[
        Path,
        Row(FOLDER, "", "The data folder: database, cache and the records of runs.", early=True),
    ] = field(default_factory=own_home)
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
    broker_url: Annotated[
        str,
        Row(
            BROKER,
            "",
            "RabbitMQ, to which batches are sent in blocks; empty for this process alone.",
            secret=True,
        ),
    ] = ""
    elasticsearch_url: Annotated[
        str,
        Row(
            SEARCH,
            "",
            "Where results of batches are found; empty for SQLite files in the data folder.",
            secret=True,
        ),
    ] = ""
    elasticsearch_prefix: Annotated[
        str, Row(PREFIXED, "", "What the names of all indices begin with.")
    ] = "wordmill"
    index_days: Annotated[
        float | None, Row(DAYS_OR_NONE, "days", "How long results are found; empty for ever.")
    ] = None
    index_documents: Annotated[
        int | None, Row(LINES_OR_NONE, "results", "The most that are found; empty for all.")
    ] = None
    redis_url: Annotated[
        str,
        Row(
            REDIS,
            "",
            "Where processes share cached answers and limits; empty for each its own.",
            secret=True,
        ),
    ] = ""
    storage_url: Annotated[
        str,
        Row(
            BUCKET,
            "",
            "Where files and results are kept, as s3://bucket/path; empty for the data folder.",
            secret=True,
        ),
    ] = ""
    rehearsal_url: Annotated[
        str | None,
        Row(
            ADDRESS_OR_NONE,
            "",
            "Where the rehearsal model is (`wordmill rehearse`), with /v1 at its end; empty for "
            "one inside each process, which batches over RabbitMQ cannot use.",
        ),
    ] = None
    model_server_url: Annotated[
        str | None,
        Row(
            ADDRESS_OR_NONE,
            "",
            "Where the models of this machine are answered (`wordmill model-server`), with /v1 at "
            "its end; empty for a server that is started when it is needed.",
        ),
    ] = None
    model_server_key: Annotated[
        str | None,
        Row(
            TEXT_OR_NONE,
            "",
            "The key of the model server; empty for one that is made, in the data folder.",
            secret=True,
            early=True,
        ),
    ] = None
    local_memory: Annotated[
        int | None,
        Row(
            SIZE_OR_NONE,
            "bytes",
            "The most that all loaded models may have; empty for four fifths of the machine's.",
        ),
    ] = None
    local_idle: Annotated[
        float,
        Row(PAUSE, "seconds", "After that a model that nobody uses is unloaded; 0 for never."),
    ] = 900.0
    local_load_seconds: Annotated[
        float, Row(SECONDS, "seconds", "The time that loading a model may take.")
    ] = 600.0
    local_queue: Annotated[
        int, Row(whole(1), "requests", "The most that wait for one local model.")
    ] = 2048
    local_person_queue: Annotated[int, Row(whole(1), "requests", "The same of one person.")] = 1024
    local_person_slots: Annotated[
        int,
        Row(
            whole(0),
            "requests",
            "Of one person that a local model answers at once; 0 for as many as it can.",
        ),
    ] = 0
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
    part_rows: Annotated[
        int,
        Row(whole(1), "rows", "Of a part, where a run is shared out to `wordmill worker`s."),
    ] = 2048
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

    gdrive_client_id: Annotated[
        str | None, Row(TEXT_OR_NONE, "", "What Google calls this Wordmill; people connect Drives.")
    ] = None
    gdrive_client_secret: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "What it is known by at Google.", secret=True, early=True),
    ] = None
    gdrive_scope: Annotated[
        str, Row(DRIVE_SCOPE, "", "What of a Drive is asked for: Wordmill's own files, or all.")
    ] = "drive.file"
    gdrive_service_account: Annotated[
        str | None,
        Row(TEXT_OR_NONE, "", "The key (JSON) of a service account.", secret=True, early=True),
    ] = None
    gdrive_drive: Annotated[
        str | None, Row(TEXT_OR_NONE, "", "The shared drive of that account: its link or id.")
    ] = None
    gdrive_url: Annotated[
        str | None,
        Row(ADDRESS_OR_NONE, "", "A server that stands in for Google's; empty for it.", early=True),
    ] = None

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
    batch_urls: Annotated[
        str,
        Row(
            BATCH_URLS,
            "",
            "Who may name servers by their address in a batch, where only public ones are asked.",
        ),
    ] = "admins"
    batch_keys: Annotated[
        tuple[str, ...],
        Row(
            BATCH_KEYS,
            "",
            "Variables whose keys may go with such an address, each with the one host that it is "
            "for, as NAME@api.host.",
            early=True,
        ),
    ] = ()
    private_hosts: Annotated[
        tuple[str, ...],
        Row(
            NAMES,
            "",
            "Hosts that may be asked at such an address although they are not public.",
            early=True,
        ),
    ] = ()
    batch_functions: Annotated[
        tuple[str, ...],
        Row(
            MODULES,
            "",
            "Python modules whose functions batches may call with their answers; empty for none.",
            early=True,
        ),
    ] = ()
    batch_function_seconds: Annotated[
        float, Row(SECONDS, "seconds", "The time that such a function has for one answer.")
    ] = 10.0

    hub_url: Annotated[
        str | None,
        Row(
            ADDRESS_OR_NONE,
            "",
            "The hub that models are fetched from, or a mirror of it; empty for HF_ENDPOINT or the "
            "public one.",
            early=True,
        ),
    ] = None
    hub_offline: Annotated[
        bool, Row(FLAG, "", "Whether the hub is never asked; HF_HUB_OFFLINE says the same.")
    ] = False
    models_folder: Annotated[
        Path | None,
        Row(
            FOLDER_OR_NONE,
            "",
            "Where fetched models are kept, as the hub's own client does; empty for `models` in "
            "the data folder.",
            early=True,
        ),
    ] = None
    model_licenses: Annotated[
        tuple[str, ...],
        Row(NAMES, "", "The licences whose models may be fetched, as apache-2.0; empty for all."),
    ] = ()
    remote_code: Annotated[
        tuple[str, ...],
        Row(
            NAMES,
            "",
            "Repositories whose own Python code may run, each at one commit, as owner/name@commit.",
            early=True,
        ),
    ] = ()
    converter_python: Annotated[
        Path | None,
        Row(
            FOLDER_OR_NONE,
            "",
            "A Python that has optimum-intel, to quantize models with; empty for an environment "
            "that Wordmill makes when it is first needed.",
            early=True,
        ),
    ] = None

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
        if name not in ROWS:
            raise UnknownName("setting", name, ROWS)
        return self._origins.get(name, "default")

    def shown(self, name: str) -> str:
        """A value as it is written, secrets masked."""
        if name not in ROWS:
            raise UnknownName("setting", name, ROWS)
        value: Plain = getattr(self, name)
        text = written(name, value)
        return masked(text) if ROWS[name].secret else text

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


ROWS: Mapping[str, Row] = _rows()


def table() -> Iterator[Setting]:
    """The rows, in order."""
    for item in fields(Settings):
        if item.name in ROWS:
            default = "" if item.name == "home" else written(item.name, item.default)
            yield Setting(item.name, ROWS[item.name], default)


def written(name: str, value: object) -> str:
    """A value as one would write it in the environment."""
    if value is None:
        return "auto" if name == "concurrency" else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)

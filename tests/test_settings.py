from collections.abc import Callable
from pathlib import Path

import pytest

from wordmill import settings
from wordmill.database import open_database
from wordmill.database import settings as stored
from wordmill.errors import ConfigError, UnknownName
from wordmill.settings import load, parse_bytes, parse_concurrency, parse_seconds
from wordmill.settings.pages import markdown


@pytest.fixture(autouse=True)
def project(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, the current folder; the system's data folder is `home`, nothing is set."""
    monkeypatch.delenv("WORDMILL_HOME")
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: home)
    return folder


def set_in_ui(name: str, value: str) -> None:
    from datetime import UTC, datetime

    with open_database(load()) as database, database.begin() as connection:
        connection.execute(
            stored.insert().values(name=name, value=value, updated=datetime.now(UTC))
        )


def test_without_anything_all_are_defaults(tmp_path: Path) -> None:
    values = load()
    assert values.home == tmp_path / "home"
    assert values.database_url == f"sqlite:///{tmp_path}/home/wordmill.db"
    assert values.cache_file == tmp_path / "home" / "cache.db"
    assert (values.default_max_tokens, values.concurrency, values.attempts) == (2048, None, 6)
    assert {values.origin(setting.name) for setting in settings.table()} == {"default"}
    assert values.warnings == ()
    assert not (tmp_path / "home").exists()


def test_each_source_beats_the_next(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the weakest to the strongest: each new source wins."""
    seen = []

    def note() -> None:
        values = load()
        seen.append((values.attempts, values.origin("attempts")))

    note()
    set_in_ui("attempts", "11")
    note()
    (project / "wordmill.toml").write_text("attempts = 12\n")
    note()
    (project / ".env").write_text("WORDMILL_ATTEMPTS=13\n")
    note()
    monkeypatch.setenv("WORDMILL_ATTEMPTS", "14")
    note()
    assert seen == [
        (6, "default"),
        (11, "set in the UI"),
        (12, str(project / "wordmill.toml")),
        (13, str(project / ".env")),
        (14, "environment (WORDMILL_ATTEMPTS)"),
    ]
    values = load({"attempts": "15", "grace_seconds": None})
    assert (values.attempts, values.origin("attempts")) == (15, "command line")
    assert values.origin("grace_seconds") == "default"


def test_a_secret_may_stand_in_a_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://mill:hunter2@db/mill\n")
    monkeypatch.setenv("WORDMILL_DATABASE_URL_FILE", str(file))
    (project / "wordmill.toml").write_text('database_url = "sqlite:////nowhere"\n')
    values = load()
    assert values.database_url == "postgresql://mill:hunter2@db/mill"
    assert values.origin("database_url") == f"{file} (WORDMILL_DATABASE_URL_FILE)"
    assert values.shown("database_url") == "postgresql://mill:********@db/mill"
    assert "hunter2" not in repr(values)
    monkeypatch.setenv("WORDMILL_DATABASE_URL", "sqlite:////elsewhere")
    assert load().database_url == "sqlite:////elsewhere"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://mill:p@ss@db/mill", "postgresql://mill:********@db/mill"),
        (
            "postgresql:///mill?password=hunter2&host=/run",
            "postgresql:///mill?password=********&host=/run",
        ),
        ("hunter2", "********"),
    ],
)
def test_an_address_is_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", url)
    values = load()
    assert values.shown("database_url") == shown
    assert not any("hunter2" in warning or "p@ss" in warning for warning in values.warnings)


def test_what_is_set_in_the_ui_comes_from_postgresql_too(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", postgres_url)
    assert load().warnings == ()  # an empty database
    set_in_ui("attempts", "11")
    values = load()
    assert (values.attempts, values.origin("attempts")) == (11, "set in the UI")
    assert values.warnings == ()


def test_a_server_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", f"postgres://mill:hunter2@/mill?host={tmp_path}")
    (warning,) = load().warnings
    assert warning.startswith(
        f"The settings in postgres://mill:********@/mill?host={tmp_path} could not be read: "
    )
    assert "hunter2" not in warning
    assert "OperationalError" not in warning


def test_a_secret_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL_FILE", "/nowhere/url")
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value) == (
        "WORDMILL_DATABASE_URL_FILE names /nowhere/url, which cannot be read: "
        "[Errno 2] No such file or directory: '/nowhere/url'."
    )


def test_only_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMILL_ATTEMPTS_FILE", "/etc/hostname")
    assert load().warnings == (
        (
            "The environment has WORDMILL_ATTEMPTS_FILE, which means nothing. "
            "Did you mean 'WORDMILL_ATTEMPTS'?"
        ),
    )


def test_names_that_mean_nothing_get_a_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_CONCURENCY", "8")
    monkeypatch.setenv("WORDMILL_CONSUMER_BLOCKS", "8")  # wordmill-consumer looks after it
    (project / ".env").write_text("WORDMILL_HOMME=x\nOTHER=1\n")
    (project / "wordmill.toml").write_text("atempts = 3\nqqq = 1\n[model.mock]\nmodel = 'x'\n")
    toml = project / "wordmill.toml"
    assert load().warnings == (
        f"{toml} has 'atempts', which means nothing. Did you mean 'attempts'?",
        f"{toml} has 'qqq', which means nothing. `wordmill settings` shows what there is.",
        (
            f"{toml} has 'model', which means nothing. "
            "Did you mean 'models' or 'models_folder' or 'default_model'?"
        ),
        f"{project}/.env sets WORDMILL_HOMME, which means nothing. Did you mean 'WORDMILL_HOME'?",
        (
            "The environment has WORDMILL_CONCURENCY, which means nothing. "
            "Did you mean 'WORDMILL_CONCURRENCY' or 'WORDMILL_MAX_CONCURRENCY'?"
        ),
    )


def test_an_unknown_name_on_the_command_line_is_an_error() -> None:
    with pytest.raises(UnknownName) as caught:
        load({"concurency": "8"})
    assert str(caught.value) == (
        "There is no setting 'concurency'. Did you mean 'concurrency' or 'max_concurrency'?"
    )
    with pytest.raises(UnknownName):
        load().origin("concurency")
    with pytest.raises(UnknownName):
        load().shown("concurency")


@pytest.mark.parametrize(
    ("name", "text", "expects"),
    [
        ("attempts", "many", "a whole number of 1 or more"),
        ("attempts", "0", "a whole number of 1 or more"),
        ("attempts", "", "a whole number of 1 or more"),
        ("concurrency", "-1", "a whole number of 1 or more, or `auto`"),
        ("connect_seconds", "0", "a time above 0, as `10`, `200ms` or `5m`"),
        ("grace_seconds", "soon", "a time, as `0`, `10` or `5m`"),
        ("max_reply_bytes", "1.5 ells", "a size, as `16MiB` or `1048576`"),
        ("cache", "maybe", "true or false"),
        ("cache_days", "-3", "a number above 0, or nothing"),
        ("log_level", "loud", "debug, info, warning or error"),
        ("log_format", "xml", "json or pretty"),
        ("otlp_endpoint", "collector:4318", "an http:// or https:// address, or nothing"),
        ("home", "", "a folder"),
    ],
)
def test_a_value_that_does_not_parse(
    name: str, text: str, expects: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"WORDMILL_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        load()
    sentence = f"{name} must be {expects}, not {text!r} (from: environment ({variable}))."
    assert str(caught.value) == sentence


def test_every_kind_of_value_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "CONCURRENCY": "64", "CACHE": "off", "CACHE_DAYS": "7.5", "CACHE_BYTES": "2GB",
        "MAX_REPLY_BYTES": "1 MiB", "TOTAL_SECONDS": "2m", "LOG_LEVEL": "DEBUG",
        "DEFAULT_MODEL": "mock", "GRACE_SECONDS": "0", "HOME": "~/mill",
    }  # fmt: skip
    for name, text in given.items():
        monkeypatch.setenv(f"WORDMILL_{name}", text)
    values = load()
    assert (values.concurrency, values.cache, values.cache_days) == (64, False, 7.5)
    assert (values.cache_bytes, values.max_reply_bytes) == (2_000_000_000, 1_048_576)
    assert (values.total_seconds, values.grace_seconds) == (120.0, 0.0)
    assert (values.log_level, values.default_model) == ("debug", "mock")
    assert values.home == Path("~/mill").expanduser()


def test_toml_values_may_be_numbers_and_texts(project: Path) -> None:
    (project / "wordmill.toml").write_text(
        'concurrency = "auto"\ncache = false\ngrace_seconds = 2.5\nhome = "data"\n'
        "[models.mock]\nmodel = 'm'\n"
    )
    values = load()
    assert (values.concurrency, values.cache, values.grace_seconds) == (None, False, 2.5)
    assert values.home == project / "data"
    assert values.project == project / "wordmill.toml"
    assert values.models == {"mock": {"model": "m"}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("attempts =", "{toml} is no TOML: Invalid value (at end of document)."),
        ("attempts = [3]", "{toml}: attempts must be a whole number of 1 or more, not [3]."),
        ("models = 3", "{toml}: `models` must be tables, as [models.NAME]."),
        (
            "cache_days = 'x'",
            "cache_days must be a number above 0, or nothing, not 'x'" + " (from: {toml}).",
        ),
    ],
)
def test_a_bad_toml_gets_a_sentence(project: Path, text: str, sentence: str) -> None:
    toml = project / "wordmill.toml"
    toml.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value) == sentence.format(toml=toml)


def test_a_file_that_is_no_text(project: Path) -> None:
    (project / "wordmill.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).startswith(f"{project / 'wordmill.toml'} cannot be read: ")


def test_the_search_goes_up_and_ends_at_a_git_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.parent / "wordmill.toml").write_text("attempts = 2\n")
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert load().attempts == 6
    (project / "wordmill.toml").write_text("attempts = 3\n")
    assert load().attempts == 3
    (inner / "wordmill.toml").write_text("attempts = 4\n")
    assert load().attempts == 4
    assert load(folder=project).attempts == 3


def test_env_files_as_people_write_them(project: Path) -> None:
    (project / ".env").write_text(
        "# a comment\n"
        "export WORDMILL_ATTEMPTS=3   # and why\n"
        "WORDMILL_DEFAULT_MODEL = 'a # b'\n"
        'WORDMILL_LOG_LEVEL="info" # words\n'
        "this line means nothing\n"
        "KEY=\n"
    )
    values = load()
    assert (values.attempts, values.default_model, values.log_level) == (3, "a # b", "info")
    assert values.secret("KEY") is None


def test_keys_of_models(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text(f"API_KEY=from .env\nOTHER_KEY_FILE={project / 'key'}\n")
    (project / "key").write_text("from a file\n")
    values = load()
    assert values.secret("API_KEY") == "from .env"
    assert values.secret("OTHER_KEY") == "from a file"
    assert values.secret("NO_KEY") is None
    monkeypatch.setenv("API_KEY", "from the environment")
    assert values.secret("API_KEY") == "from the environment"
    (project / "key").unlink()
    with pytest.raises(ConfigError):
        values.secret("OTHER_KEY")


def test_the_ui_cannot_move_the_database() -> None:
    set_in_ui("home", "/elsewhere")
    values = load()
    assert values.origin("home") == "default"


def test_another_address_of_the_database_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_in_ui("attempts", "11")
    url = f"sqlite+pysqlite:///{tmp_path}/home/wordmill.db"
    monkeypatch.setenv("WORDMILL_DATABASE_URL", url)
    assert load().attempts == 11


def test_a_broken_database_does_not_hide_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "wordmill.db").write_text("not a database, but long enough to be one")
    url = f"sqlite:///{tmp_path}/home/wordmill.db"
    assert load().warnings == (f"The settings in {url} could not be read: file is not a database.",)
    monkeypatch.setenv("WORDMILL_DATABASE_URL", "nonsense")
    (warning,) = load().warnings
    assert warning.startswith("The settings in ******** could not be read: Could not parse")


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_bytes, "16MiB", 16 * 1024**2),
        (parse_bytes, "2 GB", 2 * 10**9),
        (parse_bytes, "1.5k", 1500),
        (parse_bytes, "100b", 100),
        (parse_bytes, "7", 7),
        (parse_seconds, "30d", 30 * 86400.0),
        (parse_seconds, "1.5h", 5400.0),
        (parse_seconds, "200ms", 0.2),
        (parse_seconds, "90", 90.0),
        (parse_concurrency, "AUTO", None),
        (parse_concurrency, "8", 8),
    ],
)
def test_sizes_times_and_numbers(
    parse: Callable[[str], float | None], text: str, value: float | None
) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", "x", "1 ell", "-1", "1e3", "inf", "nan"])
@pytest.mark.parametrize("parse", [parse_bytes, parse_seconds, parse_concurrency])
def test_what_is_no_size_time_or_number(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert markdown() in page.read_text(encoding="utf-8"), (
        "make the table anew: wordmill settings --markdown"
    )

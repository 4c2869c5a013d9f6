from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from wordmill.database import open_database
from wordmill.errors import ConfigError, UnknownName
from wordmill.models import REHEARSAL, Catalog, Model, checked
from wordmill.providers.openai import OpenAI
from wordmill.providers.rehearsal import RehearsalProvider
from wordmill.settings import load

Again: TypeAlias = Callable[[], Catalog]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, the current folder."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def catalog(project: Path, either_database: str) -> Iterator[Catalog]:
    settings = load()
    with open_database(settings) as database:
        yield Catalog(database, settings)


@pytest.fixture
def again() -> Iterator[Again]:
    """The catalog of a process that starts now."""
    with ExitStack() as opened:

        def start() -> Catalog:
            settings = load()
            return Catalog(opened.enter_context(open_database(settings)), settings)

        yield start


def mock(name: str = "mock", **options: object) -> Model:
    fields = {"name": name, "base_url": "http://127.0.0.1:9000/v1", "model": "mock-1"}
    return checked({**fields, **options})


def test_a_model_is_stored_whole(catalog: Catalog, again: Again) -> None:
    model = mock(
        key_env="A_KEY", headers={"X-Team": "blue"}, concurrency=8, rpm=60, tpm=9000,
        price_in=0.15, price_out=0.6, context=8192, fallback="rehearsal", without=["seed"],
    )  # fmt: skip
    catalog.add(model)
    assert again().get("mock") == model
    assert catalog.names() == ["mock", "rehearsal"]
    assert catalog.all() == [(model, "catalog"), (REHEARSAL, "built in")]


def test_rehearsal_is_always_there(catalog: Catalog) -> None:
    assert catalog.get("rehearsal") == REHEARSAL
    assert isinstance(catalog.provider("rehearsal"), RehearsalProvider)
    with pytest.raises(ConfigError) as caught:
        catalog.add(mock("rehearsal"))
    assert str(caught.value) == (
        "The model 'rehearsal' is built in. Choose another name; "
        "`--provider rehearsal` makes more of its kind."
    )
    with pytest.raises(ConfigError) as caught:
        catalog.remove("rehearsal")
    assert str(caught.value) == "The model 'rehearsal' is built in and cannot be removed."


def test_another_of_the_rehearsal_kind(catalog: Catalog) -> None:
    catalog.add(checked({"name": "dry", "provider": "rehearsal", "model": "x", "price_in": 1}))
    provider = catalog.provider("dry")
    assert isinstance(provider, RehearsalProvider)
    assert provider.lane()["price_input"] == 1.0


def test_a_preset_is_spoken_to_like_any_other(catalog: Catalog) -> None:
    catalog.add(checked({"name": "fast", "provider": "groq", "model": "m"}))
    provider = catalog.provider("fast")
    assert type(provider) is OpenAI
    assert provider.model.base_url == "https://api.groq.com/openai/v1"


def test_an_unknown_model(catalog: Catalog) -> None:
    catalog.add(mock())
    with pytest.raises(UnknownName) as caught:
        catalog.get("mok")
    assert str(caught.value) == (
        "There is no model 'mok'. Did you mean 'mock'? "
        "`wordmill models add mok --base-url URL --model NAME` makes one."
    )


def test_a_name_is_taken_once(catalog: Catalog) -> None:
    catalog.add(mock())
    with pytest.raises(ConfigError) as caught:
        catalog.add(mock(model="mock-2"))
    assert str(caught.value) == (
        "There is a model 'mock' already. `wordmill models show mock` shows it; "
        "--replace overwrites it."
    )
    catalog.add(mock(model="mock-2"), replacing=True)
    assert catalog.get("mock").model == "mock-2"


def test_removing(catalog: Catalog) -> None:
    catalog.add(mock())
    catalog.add(mock("other", fallback="mock"))
    with pytest.raises(ConfigError) as caught:
        catalog.remove("mock")
    assert str(caught.value) == (
        "The model 'mock' is the fallback of 'other': give that another one first, "
        "with `wordmill models add ... --replace`."
    )
    catalog.remove("other")
    catalog.remove("mock")
    assert catalog.names() == ["rehearsal"]
    with pytest.raises(UnknownName):
        catalog.remove("mock")


def test_a_chain_of_fallbacks(catalog: Catalog) -> None:
    catalog.add(mock("a", fallback="b"))
    with pytest.raises(UnknownName) as caught:
        catalog.chain("a")
    assert str(caught.value) == (
        "There is no model 'b'. There are: a, rehearsal. It is the fallback of 'a'."
    )
    catalog.add(mock("b", fallback="rehearsal"))
    assert [model.name for model in catalog.chain("a")] == ["a", "b", "rehearsal"]
    with pytest.raises(UnknownName):
        catalog.chain("c")


def test_fallbacks_in_a_circle(catalog: Catalog, project: Path, again: Again) -> None:
    with pytest.raises(ConfigError) as caught:
        catalog.add(mock("a", fallback="a"))
    assert str(caught.value) == "This fallback goes in a circle: a -> a. Name another one."
    catalog.add(mock("a", fallback="b"))
    with pytest.raises(ConfigError) as caught:
        catalog.add(mock("b", fallback="a"))
    assert str(caught.value) == "This fallback goes in a circle: b -> a -> b. Name another one."
    (project / "wordmill.toml").write_text(
        '[models.b]\nbase_url = "http://h/v1"\nmodel = "m"\nfallback = "a"\n'
    )
    with pytest.raises(ConfigError) as caught:
        again().chain("a")
    assert str(caught.value) == (
        "The fallbacks of 'a' go in a circle: a -> b -> a. "
        "Change one of them with `wordmill models add b --replace ...`."
    )


def test_a_project_has_models_of_its_own(catalog: Catalog, project: Path, again: Again) -> None:
    catalog.add(mock(rpm=60, concurrency=4))
    catalog.add(mock("gpt", key_env="A_KEY"))
    (project / "wordmill.toml").write_text(
        """
        [models.mock]
        base_url = "http://127.0.0.1:9999/v1/"
        model = "mine"
        concurrency = "auto"

        [models.gpt]
        rpm = 500

        [models.local]
        provider = "ollama"
        model = "qwen3:8b"
        """
    )
    here = again()
    assert here.names() == ["gpt", "local", "mock", "rehearsal"]
    assert here.get("mock") == Model(name="mock", base_url="http://127.0.0.1:9999/v1", model="mine")
    assert here.get("gpt") == mock("gpt", key_env="A_KEY", rpm=500)
    assert here.get("local").base_url == "http://127.0.0.1:11434/v1"
    toml = project / "wordmill.toml"
    with pytest.raises(ConfigError) as caught:
        here.add(mock("gpt"), replacing=True)
    assert str(caught.value) == f"The model 'gpt' is described in {toml}: change it there."
    with pytest.raises(ConfigError) as caught:
        here.remove("local")
    assert str(caught.value) == f"The model 'local' is described in {toml}: remove it there."


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("x = 3", ": models.x must be a table, as [models.x]."),
        ("x = {rpm = 3}", ", [models.x]: model is missing."),
        (
            "x = {model = 'm', base_ulr = 'http://h'}",
            ", [models.x]: There is no field 'base_ulr'. Did you mean 'base_url'?",
        ),
        (
            "x = {model = 'm', base_url = 'http://h', rpm = 'many'}",
            ", [models.x]: rpm must be a valid integer, not 'many'.",
        ),
        (
            "x = {model = 'm', provider = 'opanai'}",
            ", [models.x]: There is no provider 'opanai'. Did you mean 'openai' or 'ollama'?",
        ),
    ],
)
def test_a_bad_table(project: Path, again: Again, table: str, sentence: str) -> None:
    toml = project / "wordmill.toml"
    toml.write_text(f"[models]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        again().get("x")
    assert str(caught.value) == f"{toml}{sentence}"


def test_a_table_cannot_change_what_is_built_in(project: Path, again: Again) -> None:
    toml = project / "wordmill.toml"
    toml.write_text("[models.rehearsal]\nrpm = 3\n")
    with pytest.raises(ConfigError) as caught:
        again().get("rehearsal")
    assert str(caught.value) == (f"{toml}: the model 'rehearsal' is built in. Choose another name.")


@pytest.mark.parametrize(
    ("url", "tidy"),
    [
        ("http://127.0.0.1:9000/v1/", "http://127.0.0.1:9000/v1"),
        ("https://Host.Example", "https://host.example"),
        ("https://h/a/b/c//", "https://h/a/b/c"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
        ("HTTP://h:1/V1", "http://h:1/V1"),
    ],
)
def test_addresses_are_tidied(url: str, tidy: str) -> None:
    assert mock(base_url=url).base_url == tidy


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://h/v1", "'ftp://h/v1' is no address of a server: it begins with http:// or https://."),
        ("h:9000/v1", "'h:9000/v1' is no address of a server: it begins with http:// or https://."),
        ("127.0.0.1", "'127.0.0.1' is no address of a server: it begins with http:// or https://."),
        ("http://", "'http:' is no address of a server, as http://host:port/v1."),
        ("http://h h/", "'http://h h' is no address of a server, as http://host:port/v1."),
        ("http://h:0/", "'http://h:0' is no address of a server, as http://host:port/v1."),
        ("http://h:99999/", "'http://h:99999' is no URL: Port out of range 0-65535."),
    ],
)  # fmt: skip
def test_addresses_that_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock(base_url=url)
    assert str(caught.value) == sentence


def test_an_address_holds_no_password() -> None:
    with pytest.raises(ConfigError) as caught:
        mock(base_url="https://me:hunter2@h/v1")
    assert str(caught.value) == (
        "A URL with a user or a password in it would be stored and shown: name the variable that "
        "holds the key with --key-env."
    )


@pytest.mark.parametrize("end", ["?api-version=2", "?", "#top"])
def test_an_address_is_only_an_address(end: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock(base_url=f"https://h/v1{end}")
    assert str(caught.value) == (
        f"'https://h/v1{end}' has more than an address: leave out what begins with ? or #. "
        "A key goes into --key-env, another parameter into --header."
    )


def test_an_address_of_one_operation() -> None:
    with pytest.raises(ConfigError) as caught:
        mock(base_url="https://h/v1/chat/completions/")
    assert str(caught.value) == (
        "'https://h/v1/chat/completions' is the address of one operation; the base URL ends "
        "before it: https://h/v1"
    )


def test_a_provider_without_an_address() -> None:
    with pytest.raises(ConfigError) as caught:
        checked({"name": "x", "provider": "rehearsal", "model": "m", "base_url": "http://h/v1"})
    assert str(caught.value) == (
        "The provider 'rehearsal' runs inside Wordmill and has no address. For a server that "
        "`wordmill rehearse` started, use --provider openai."
    )


@pytest.mark.parametrize("name", ["", "a b", "-a", "a\n", "ä", "x" * 101, "../x", "a;b"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        mock(name)


@pytest.mark.parametrize("name", ["gpt-4.1", "qwen3:8b", "meta/llama", "a@b", "7b"])
def test_names_that_are_taken(name: str) -> None:
    assert mock(name).name == name


def test_a_name_that_is_refused_gets_a_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        mock("a b")
    assert str(caught.value) == (
        "'a b' is no name for a model: it begins with a letter or digit, goes on with these or "
        ". _ - : / @, and has at most 100."
    )


@pytest.mark.parametrize("key", ["sk-proj-abcdefghijkl", "sk_live_abcdefgh", "a b", "", "1A"])
def test_a_key_in_place_of_its_variable_is_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock(key_env=key)
    assert str(caught.value) == (
        "key_env is the name of the environment variable that holds the key, as OPENAI_API_KEY; "
        "never the key itself, which would be stored and shown."
    )


@pytest.mark.parametrize(
    "name", ["Authorization", "api-key", "X-Api-Key", "Cookie", "x-auth-token"]
)
def test_a_secret_in_a_header_is_not_stored(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock(headers={name: "hunter2"})
    assert str(caught.value) == (
        f"The header {name!r} would store a secret: put it into a variable and write "
        f"'{name}: ${{VARIABLE}}', or use --key-env."
    )
    assert mock(headers={name: "${A_KEY}"}).headers == {name: "${A_KEY}"}


@pytest.mark.parametrize("header", [("a b", "x"), ("", "x"), ("a", "x\r\nb: c"), ("a", "é")])
def test_what_is_no_header(header: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        mock(headers=dict([header]))
    assert str(caught.value) == f"{header[0]!r} is no header: write it as 'Name: value'."


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("concurrency", 0, "concurrency must be greater than or equal to 1, not 0."),
        ("price_in", -1, "price_in must be greater than or equal to 0, not -1."),
        ("price_out", float("nan"), "price_out must be less than or equal to 1000000000, not nan."),
        ("context", 1.5, "context must be a valid integer, not 1.5."),
    ],
)
def test_numbers_that_are_refused(field: str, value: float, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock(**{field: value})
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "http://h/" + "a" * 2_000}, "The base URL has 2,009 characters; at most"),
        ({"key_env": "K" * 201}, "key_env is the name of the environment variable"),
        ({"fallback": "x" * 101}, "is no name for a model: it begins with"),
        ({"without": ["json_shema"]}, "There is no capability 'json_shema'. Did you mean"),
    ],
)
def test_what_no_database_holds_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked({"name": "m", "base_url": "http://h/v1", "model": "m", **options})
    assert words in str(caught.value)

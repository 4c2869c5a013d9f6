"""Is the server there, and if not, why: `wordmill models test` and the check before a run.

Each way of failing has its own sentence: what was tried, what came back, what to do. Where a
guess can be checked by asking (is it `/v1` that is missing? which models are offered?) it is
asked, not guessed.
"""

import json
import shlex
from collections.abc import Collection
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import urlsplit

from wordmill import outbound
from wordmill.errors import ConfigError, nearest
from wordmill.outbound import Failure, Limits, Response
from wordmill.providers.base import Probe, Provider, Trial
from wordmill.secrets import scrub
from wordmill.types import Message, RequestShape, Usage, Value

QUESTION = "Say hello in one short sentence."
ANSWER_TOKENS = 64
_REFUSALS = 8
"""How many refused fields are gone without before it is called a failure."""


class _Server(NamedTuple):
    """A provider with what it needs to be spoken to, read once."""

    provider: Provider
    address: str
    headers: dict[str, str]
    limits: Limits

    @property
    def allowed(self) -> tuple[str, ...] | None:
        """Whether only public addresses are asked, and which hosts all the same."""
        return self.provider.settings.private_hosts if self.provider.model.guarded else None

    def get(self, url: str) -> Response | Failure:
        return outbound.send(
            "GET", url, headers=self.headers, limits=self.limits, allowed=self.allowed
        )

    def post(self, url: str, body: dict[str, Value]) -> Response | Failure:
        data = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        return outbound.send(
            "POST", url, headers=headers, body=data, limits=self.limits, allowed=self.allowed
        )

    def clean(self, text: str) -> str:
        return scrub(text, self.provider.secrets())


def probe(provider: Provider) -> Probe:
    """Ask for the list of models."""
    try:
        server = _server(provider)
    except ConfigError as error:
        return Probe(False, 0.0, (), str(error), usable=False)
    url = server.address + "/models"
    answer = server.get(url)
    if isinstance(answer, Failure):
        return Probe(False, 0.0, (), _no_answer(server, answer), usable=False)
    names = _names(answer)
    host = urlsplit(url).netloc
    wanted = provider.model.model
    if names:
        known = f"{host} answers in {_seconds(answer.seconds)} and offers {_models(names)}"
        if offered(wanted, names):
            sentence = f"{known}, {wanted!r} among them."
        else:
            sentence = f"{known}, but none called {wanted!r}{_nearest(wanted, names)}"
        return Probe(True, answer.seconds, names, sentence, usable=True)
    if answer.status in (401, 402, 403):
        return Probe(True, answer.seconds, (), _refused(server, url, answer), usable=False)
    if answer.status in (404, 405, 501) and (better := _better(server)):
        return Probe(True, answer.seconds, (), better, usable=False)
    told = "an empty list" if answer.status == 200 else f"status {answer.status}"
    sentence = f"{host} answers, but gives no list of models at {url} ({told})."
    return Probe(True, answer.seconds, (), sentence, usable=True)


def test(provider: Provider) -> Trial:
    """Ask one small question."""
    try:
        server = _server(provider)
    except ConfigError as error:
        return Trial(False, str(error))
    shape = RequestShape(
        provider.model.name, (Message("user", QUESTION),), (("max_tokens", ANSWER_TOKENS),)
    )
    url = server.address + provider.path("chat")
    degraded: list[str] = []
    while True:
        sent = provider.dialect
        body = {"model": provider.model.model, **provider.body(shape)}
        body = {name: value for name, value in body.items() if value is not None}
        answer = server.post(url, body)
        if isinstance(answer, Failure):
            return Trial(False, _no_answer(server, answer), degraded=tuple(degraded))
        if answer.status not in (400, 422) or len(degraded) >= _REFUSALS:
            break
        step = provider.degrade(shape, answer.text[:4000], sent)
        if step is None:
            break
        degraded.append(step.sentence)
    trial = _judged(server, url, answer)
    return Trial(
        trial.passed, trial.sentence, answer.seconds, trial.text, trial.usage, tuple(degraded)
    )


def offered(wanted: str, names: Collection[str]) -> bool:
    """Whether a server's list has a model; `models/x` and `x:latest` are other names of `x`."""
    return any(
        wanted in (name, name.removeprefix("models/"), name.removesuffix(":latest"))
        for name in names
    )


def _server(provider: Provider) -> _Server:
    settings = provider.settings
    key = provider.key()
    headers = {"Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    limits = Limits(
        connect=settings.connect_seconds,
        first_byte=settings.first_byte_seconds,
        total=settings.total_seconds,
        reply=settings.max_reply_bytes,
    )
    return _Server(provider, provider.address(), headers | provider.headers(), limits)


def _no_answer(server: _Server, failure: Failure) -> str:
    parts = urlsplit(server.address)
    where = f"{parts.scheme}://{parts.netloc}"
    words = server.clean(failure.detail)
    correct = (
        f"correct the address (`wordmill models add {server.provider.model.name} --replace ...`)"
    )
    if failure.kind == "refused":
        return f"Nothing answers at {where} ({words}). Start the server, or {correct}."
    if failure.kind == "name":
        return (
            f"There is no host {parts.hostname!r} ({words}). Is it spelt right, and is there a "
            "network?"
        )
    if failure.kind == "tls" and "WRONG_VERSION_NUMBER" in words.upper().replace(" ", "_"):
        return f"{where} does not speak TLS: try http:// instead of https://, or {correct}."
    if failure.kind == "tls":
        return (
            f"The certificate of {where} is not trusted ({words}). If it is your own, name its "
            "authority in SSL_CERT_FILE."
        )
    if failure.kind == "timeout":
        return (
            f"{where} did not answer in time ({words}). It may be loading the model: wait, or "
            "raise WORDMILL_FIRST_BYTE_SECONDS."
        )
    if failure.kind == "too_large":
        return f"The answer of {where} is too long ({words}). Is it an API at all?"
    if failure.kind == "private":
        return words
    if failure.kind == "proxy":
        return (
            f"The proxy did not let us through to {where} ({words}). See HTTPS_PROXY and NO_PROXY."
        )
    return (
        f"{where} broke the connection off ({words}). Does it speak HTTP, and is it http:// or "
        "https://?"
    )


def _judged(server: _Server, url: str, answer: Response) -> Trial:
    status = answer.status
    words = _error_words(server, answer)
    if status == 200:
        return _success(server, url, answer)
    if status in (401, 402, 403):
        return Trial(False, _refused(server, url, answer))
    if status in (404, 400, 422) and _means_model(answer, words):
        return Trial(False, _unknown_model(server, words))
    if status in (404, 405) and (better := _better(server)):
        return Trial(False, better)
    if 300 <= status < 400:
        target = server.clean(answer.headers.get("location", "nowhere"))
        return Trial(
            False, f"{url} redirects to {target}, which we do not follow: give the address itself."
        )
    if status in (404, 405):
        return Trial(
            False,
            f"There is no {url} ({status}{words}). Does the base URL end where the API begins, "
            "as in http://host:port/v1?",
        )
    if status == 429:
        return Trial(False, f"{url} is there, and has had enough of us for now (429{words}).")
    if status >= 500:
        return Trial(False, f"The server at {url} has a fault of its own ({status}{words}).")
    return Trial(False, f"{url} refused the question ({status}{words}).")


def _success(server: _Server, url: str, answer: Response) -> Trial:
    document = _json(answer)
    if not isinstance(document, dict):
        if better := _better(server):
            return Trial(False, better)
        what = "a web page" if _is_page(answer) else "no JSON"
        if document is not None:
            found = "a list" if isinstance(document, list) else "a single value"
            what = f"JSON that is {found}, not an object"
        return Trial(
            False,
            f"{url} answered with {what}: {_shortened(server.clean(answer.text))!r}. "
            "Is this the address of the API?",
        )
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        words = _error_words(server, answer)
        return Trial(
            False, f"{url} answered with JSON that holds no choices of a chat completion{words}."
        )
    text = _text(message.get("content"))
    usage = _usage(document.get("usage"))
    counted = (
        f"{usage.input} tokens in, {usage.output} out" if usage else "and does not count tokens"
    )
    name = document.get("model")
    who = name if isinstance(name, str) and name else server.provider.model.model
    said = f": {_shortened(text)!r}" if text else ", all of them thought and none said"
    sentence = (
        f"{server.provider.model.name} works: {who} answered in {_seconds(answer.seconds)}, "
        f"{counted}{said}"
    )
    return Trial(True, sentence, answer.seconds, text, usage)


def _refused(server: _Server, url: str, answer: Response) -> str:
    words = _error_words(server, answer)
    if answer.status == 402:
        return f"{url} wants to be paid first (402{words})."
    model, credential = server.provider.model, server.provider.credential()
    if credential is None:
        again = shlex.join(["--base-url", model.base_url, "--model", model.model])
        return (
            f"{url} wants an API key ({answer.status}{words}), and {model.name!r} has none: store "
            f"it with `wordmill models key {model.name}`, or name the variable that holds it: "
            f"`wordmill models add {model.name} --replace {again} --key-env VARIABLE`."
        )
    if answer.status == 403:
        return f"{url} does not allow this to {credential.origin} (403{words})."
    return f"{url} does not accept {credential.origin} ({answer.status}{words})."


def _unknown_model(server: _Server, words: str) -> str:
    wanted = server.provider.model.model
    names = _listed(server, server.address)
    if not names:
        return f"The server knows no model {wanted!r}{words and f' ({words[2:]})'}."
    return f"The server has no model {wanted!r}{_nearest(wanted, names)}"


def _better(server: _Server) -> str | None:
    """A sentence on an address nearby that is the API's, if there is one: it is asked."""
    address = server.address
    for other in (address + "/v1", address + "/api/v1", address.removesuffix("/v1")):
        if other != address and not other.endswith("/v1/v1") and _is_api(server, other):
            return (
                f"There is no API at {address}, but there is one at {other}: `wordmill models "
                f"add {server.provider.model.name} --replace --base-url {other} ...`."
            )
    return None


def _is_api(server: _Server, address: str) -> bool:
    answer = server.get(address + "/models")
    if isinstance(answer, Failure):
        return False
    return bool(_names(answer)) or (answer.status in (401, 403) and isinstance(_json(answer), dict))


def _listed(server: _Server, address: str) -> tuple[str, ...]:
    answer = server.get(address + "/models")
    return () if isinstance(answer, Failure) else _names(answer)


def _names(answer: Response) -> tuple[str, ...]:
    """Names out of the lists that servers give: OpenAI's, Ollama's own, a bare list."""
    document = _json(answer) if answer.status == 200 else None
    if isinstance(document, dict):
        document = document.get("data", document.get("models"))
    if not isinstance(document, list):
        return ()
    found: list[str] = []
    for item in document:
        name = item
        if isinstance(item, dict):
            name = item.get("id") or item.get("name") or item.get("model")
        if isinstance(name, str):
            found.append(name)
    return tuple(found)


def _means_model(answer: Response, words: str) -> bool:
    document = _json(answer)
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if code in ("model_not_found", "unknown_model", "invalid_model"):
        return True
    lower = words.lower()
    return "model" in lower and any(
        sign in lower
        for sign in ("not found", "does not exist", "not exist", "no such", "unknown model",
                     "invalid model", "not a valid model", "is not available")
    )  # fmt: skip


def _error_words(server: _Server, answer: Response) -> str:
    """`: the server's words`, shortened, or nothing."""
    document = _json(answer)
    if isinstance(document, list) and document:
        document = document[0]
    words: Value = document
    for key in ("error", "message", "detail"):
        if isinstance(words, dict) and key in words:
            words = words[key]
    if not isinstance(words, str):
        words = json.dumps(words) if words is not None else "" if _is_page(answer) else answer.text
    words = _shortened(server.clean(words))
    return f": {words}" if words else ""


def _json(answer: Response) -> Value:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _is_page(answer: Response) -> bool:
    return answer.body.lstrip()[:1] == b"<"


def _text(content: Value) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _usage(value: Value) -> Usage | None:
    if not isinstance(value, dict):
        return None
    asked, answered = value.get("prompt_tokens"), value.get("completion_tokens")
    if not isinstance(asked, int) or not isinstance(answered, int):
        return None
    return Usage(asked, answered)


def _nearest(wanted: str, names: Collection[str]) -> str:
    plain = {name.removeprefix("models/") for name in names}
    tails = {name.rpartition("/")[2]: name for name in sorted(plain)}
    if not get_close_matches(wanted, plain, n=1, cutoff=0.5):
        near = get_close_matches(wanted, tails, n=3, cutoff=0.5)
        if near:
            return nearest(wanted, [*(tails[name] for name in near)])
    return nearest(wanted, plain)


def _models(names: Collection[str]) -> str:
    return "1 model" if len(names) == 1 else f"{len(names)} models"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:200] + "..."

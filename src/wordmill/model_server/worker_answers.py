"""What a worker answers, in OpenAI's words: whole, or as a stream of events.

An `Answer` is one request on its way through the engine. The engine's thread drops what comes into
it by way of the event loop, and `events` or `whole` take it out again.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from wordmill.backends import calls
from wordmill.backends.base import Logprob, Words
from wordmill.model_server.worker_loop import EngineDied, Told, Work

DONE: Final = b"data: [DONE]\n\n"


class EngineFailed(Exception):
    """The engine could not answer; the message is a sentence."""


@dataclass(slots=True)
class Choice:
    """One of the answers to a request. text: all of it.  held: of that, what may be a call of a
    tool and has not been shown.  cached: tokens of its prompt that were not read again, where the
    engine tells.
    """

    index: int
    work: Work | None = None
    text: list[str] = field(default_factory=list)
    held: str = ""
    tokens: int = 0
    logprobs: list[Logprob] = field(default_factory=list)
    finish: str | None = None
    cached: int | None = None


class Answer:
    """One request. chat: its body was a chat's.  tools: names of the tools that it may call.
    forced: it must call one, so that nothing of it is text.
    """

    def __init__(
        self,
        model: str,
        words: Words,
        prompt: int,
        *,
        chat: bool,
        logprobs: bool,
        usage: bool,
        tools: Sequence[str] = (),
        forced: bool = False,
    ) -> None:
        self._words, self._prompt = words, prompt
        self._chat, self._logprobs, self._usage = chat, logprobs, usage
        self._tools, self._forced = tuple(tools), forced
        self.choices: list[Choice] = []
        self._news: list[tuple[Choice, Told]] = []
        self._event = asyncio.Event()
        self._gone = False
        kind = "chat.completion" if chat else "text_completion"
        self._common = {
            "id": ("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12),
            "created": int(time.time()),
            "model": model,
        }
        self._kind = kind
        shown = {**self._common, "object": kind + ".chunk" if chat else kind}
        # A piece of text is most of what is ever sent: all but the text is made once.
        self._head = b"data: " + orjson.dumps(shown)[:-1] + b',"choices":[{"index":'

    def choice(self, work: Work) -> None:
        """One more answer that is being made."""
        made = Choice(len(self.choices), work)
        work.sink = lambda told: self._take(made, told)
        self.choices.append(made)

    @property
    def works(self) -> list[Work]:
        """Those that are not over."""
        return [one.work for one in self.choices if one.work and one.finish is None]

    def leave(self) -> None:
        """Whoever asked has gone."""
        self._gone = True
        self._event.set()

    def _take(self, choice: Choice, told: Told) -> None:
        self._news.append((choice, told))
        self._event.set()

    async def begun(self) -> None:
        """Wait for the first of it. Raises InvalidInput, EngineFailed, EngineDied when that is an
        error.
        """
        while not self._news and not self._gone:
            self._event.clear()
            await self._event.wait()
        for _, told in self._news:
            if told.refused is not None:
                raise told.refused
            if told.finish == "error":
                raise _error(told)

    async def _next(self) -> list[tuple[Choice, Told]]:
        """What has come; nothing when nobody listens any more. Raises EngineFailed, EngineDied."""
        while not self._news and not self._gone:
            self._event.clear()
            await self._event.wait()
        if self._gone:
            return []
        news, self._news = self._news, []
        for choice, told in news:
            choice.tokens += told.tokens
            choice.logprobs += told.logprobs
            choice.finish = told.finish
            if choice.cached is None:
                choice.cached = told.cached
            if told.finish == "error":
                raise _error(told)
        return news

    @property
    def _over(self) -> bool:
        return all(one.finish is not None for one in self.choices)

    async def events(self) -> AsyncIterator[bytes]:
        """Events of a stream, several at a time where several came. Ends early when left."""
        if self._chat:
            yield b"".join(
                self._event_of(one, {"role": "assistant", "content": ""}) for one in self.choices
            )
        while not self._over:
            try:
                news = await self._next()
            except (EngineFailed, EngineDied) as error:
                yield b"data: " + orjson.dumps(failure(str(error))) + b"\n\n"
                return
            if not news:
                return
            yield b"".join(self._told(choice, told) for choice, told in news)
        if self._usage:
            whole = {**self._common, "object": self._kind + (".chunk" if self._chat else "")}
            yield (
                b"data: " + orjson.dumps({**whole, "choices": [], "usage": self.usage()}) + b"\n\n"
            )
        yield DONE

    def _told(self, choice: Choice, told: Told) -> bytes:
        text = self._shown(choice, told.text)
        made = b""
        if told.finish is None:
            if text or told.logprobs:
                made = self._event_of(choice, text, told.logprobs)
            return made
        rest, called = self._called(choice)
        text += rest
        if text or told.logprobs:
            made = self._event_of(choice, text, told.logprobs)
        if called:
            made += self._event_of(choice, {"tool_calls": called})
        return made + self._event_of(choice, {}, finish="tool_calls" if called else told.finish)

    def _shown(self, choice: Choice, text: str) -> str:
        """Of a new text, what is certainly no call."""
        if not self._tools:
            return text
        choice.held += text
        at = 0 if self._forced else calls.begins(choice.held)
        if choice.text and at == 0 and choice.held.lstrip().startswith("{"):
            at = len(choice.held)  # an object in the middle of a text
        shown, choice.held = choice.held[:at], choice.held[at:]
        if shown.strip():
            choice.text.append(shown)
        return shown

    def _called(self, choice: Choice) -> tuple[str, list[dict[str, Any]]]:
        """At the end: what was held back after all, and the calls."""
        if not choice.held:
            return "", []
        text, found = calls.parse(choice.held, self._tools)
        choice.held = ""
        return text, [
            {
                "index": number,
                "id": "call_" + secrets.token_hex(8),
                "type": "function",
                "function": {"name": one.name, "arguments": one.arguments},
            }
            for number, one in enumerate(found)
        ]

    def _event_of(
        self,
        choice: Choice,
        delta: "str | dict[str, Any]",
        logprobs: Sequence[Logprob] = (),
        finish: str | None = None,
    ) -> bytes:
        told = orjson.dumps(self._probabilities(logprobs)) if logprobs else b"null"
        if self._chat:
            held = {"content": delta} if isinstance(delta, str) else delta
            part = b',"delta":' + orjson.dumps(held)
        else:
            part = b',"text":' + orjson.dumps(delta if isinstance(delta, str) else "")
        return (
            self._head
            + str(choice.index).encode()
            + part
            + b',"logprobs":'
            + told
            + b',"finish_reason":'
            + orjson.dumps(finish)
            + b"}]}\n\n"
        )

    async def whole(self) -> dict[str, Any] | None:
        """The answer at once; None when left. Raises EngineFailed, EngineDied."""
        texts: dict[int, list[str]] = {one.index: [] for one in self.choices}
        while not self._over:
            news = await self._next()
            if not news:
                return None
            for choice, told in news:
                texts[choice.index].append(told.text)
        choices = [self._choice(one, "".join(texts[one.index])) for one in self.choices]
        return {
            **self._common,
            "object": self._kind,
            "choices": choices,
            "usage": self.usage(),
        }

    def _choice(self, choice: Choice, text: str) -> dict[str, Any]:
        made: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish}
        made["logprobs"] = self._probabilities(choice.logprobs) if self._logprobs else None
        if not self._chat:
            return {**made, "text": text}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self._tools:
            at = 0 if self._forced else calls.begins(text)
            choice.held = text[at:]
            rest, called = self._called(choice)
            message["content"] = text[:at] + rest or None if called else text
            if called:
                message["tool_calls"] = [
                    {key: value for key, value in one.items() if key != "index"} for one in called
                ]
                made["finish_reason"] = "tool_calls"
        return {**made, "message": message}

    def _probabilities(self, told: Sequence[Logprob]) -> dict[str, Any]:
        if not self._chat:
            return {
                "tokens": [self._words.word(one.token) for one in told],
                "token_logprobs": [one.value for one in told],
                "top_logprobs": [
                    {self._words.word(token): value for token, value in one.others} for one in told
                ],
            }
        return {
            "content": [
                {
                    **self._probability(one.token, one.value),
                    "top_logprobs": [self._probability(*other) for other in one.others],
                }
                for one in told
            ]
        }

    def _probability(self, token: int, value: float) -> dict[str, Any]:
        text = self._words.word(token)
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    def usage(self) -> dict[str, Any]:
        """Tokens, as the engine counted them."""
        made = sum(one.tokens for one in self.choices)
        counted: dict[str, Any] = {
            "prompt_tokens": self._prompt,
            "completion_tokens": made,
            "total_tokens": self._prompt + made,
        }
        if (cached := self._cached()) is not None:
            counted["prompt_tokens_details"] = {"cached_tokens": cached}
        return counted

    def _cached(self) -> int | None:
        """Tokens of the prompts that were not read again; a prompt of several answers counts once,
        as the one that read most of it.
        """
        found: dict[int, int] = {}
        for one in self.choices:
            if one.work is not None and one.cached is not None:
                prompt = id(one.work.prompt)
                found[prompt] = min(found.get(prompt, one.cached), one.cached)
        return sum(found.values()) if found else None


def _error(told: Told) -> EngineFailed | EngineDied:
    return EngineDied(told.detail) if told.died else EngineFailed(told.detail)


def failure(message: str, field_: str = "", kind: str = "server_error") -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": field_ or None, "code": None}}

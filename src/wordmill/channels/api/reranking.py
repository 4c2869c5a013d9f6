"""Reranking: documents in the order in which they answer a query, as Jina and Cohere write it.

Servers of this form differ in what they take beside texts, in whether they sort, and in whether
they send the documents back. So a model's server gets what all of them take, and the order, the
number of results and their documents are seen to here: one request means the same everywhere.

No I/O: `openai` asks.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from wordmill.channels.api import fields
from wordmill.errors import InvalidInput, ModelFailed
from wordmill.types import Usage

Json: TypeAlias = Mapping[str, Any]

MOST_DOCUMENTS: Final = 1000
"""Of one request."""
REHEARSED: Final = (
    "The rehearsal model ranks nothing. Name a model that does: one of your own (`wordmill models "
    "fetch`, with the extra torch), or one of a server that has /rerank (`wordmill models add`)."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read. top: how many results at most.  shown: whether with their documents.
    body: what the model's server gets.
    """

    model: str
    documents: Sequence[str]
    top: int
    shown: bool
    body: Json


def read(body: Json) -> Asked:
    """A request. Raises InvalidInput."""
    told = fields.checked(body, fields.RERANK)
    model, query = fields.model_of(told), told.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InvalidInput("query is missing: the text that documents are to answer.", "query")
    documents = _documents(told.get("documents"))
    shown = bool(told.pop("return_documents", False))
    top = len(documents)
    if "top_n" in told:
        if not fields.RERANK["top_n"].holds(told["top_n"]):  # out of `extra_body`
            raise InvalidInput(f"top_n is {fields.RERANK['top_n'].expects}.", "top_n")
        top = told["top_n"] = min(top, told["top_n"])
    return Asked(model, documents, top, shown, {**told, "documents": documents})


def answer(asked: Asked, raw: object, usage: Usage) -> dict[str, Any]:
    """What a model's server said, in our form. usage: as it is charged, where the server says none.

    Raises ModelFailed for what is no ranking of these documents.
    """
    whole = raw if isinstance(raw, Mapping) else {}
    results = whole.get("results")
    if not isinstance(results, list) or not all(isinstance(one, Mapping) for one in results):
        raise _no_ranking(asked, "its answer has no list of results")
    ranked = sorted((_result(asked, one) for one in results), key=lambda one: -one[1])
    if len({index for index, _ in ranked}) < len(ranked):
        raise _no_ranking(asked, "it names a document twice")
    made = []
    for index, score in ranked[: asked.top]:
        one: dict[str, Any] = {"index": index, "relevance_score": score}
        made.append({**one, "document": {"text": asked.documents[index]}} if asked.shown else one)
    given = whole.get("usage")
    said = _told(given) if isinstance(given, Mapping) else {}
    total = said.get("total_tokens", usage.input + usage.output)
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        **_told(whole),
        "model": asked.model,
        "results": made,
        "usage": {"prompt_tokens": total, "total_tokens": total, **said},
    }


def explain(error: ModelFailed) -> None:
    """Raise a failure with what to do, where the server has no such operation."""
    if error.kind != "rejected" or not error.detail.startswith(("HTTP 404", "HTTP 405")):
        return
    words = (
        f"{error.detail}. Its server has no /rerank below the model's base URL: name a model of "
        "one that has."
    )
    raise ModelFailed(error.model, error.kind, words) from error


def _documents(given: Any) -> list[str]:
    """The texts of documents, each a text or an object that holds one."""
    if not isinstance(given, list) or not given:
        raise InvalidInput(
            "documents is a list of at least one text, or object with a text.", "documents"
        )
    if len(given) > MOST_DOCUMENTS:
        raise InvalidInput(
            f"documents has at most {MOST_DOCUMENTS:,} texts, not {len(given):,}: send them in "
            "several requests.",
            "documents",
        )
    texts = []
    for number, one in enumerate(given):
        text = one.get("text") if isinstance(one, Mapping) else one
        if not isinstance(text, str):
            place = f"documents.{number}"
            raise InvalidInput(f"{place} is a text, or an object with a text.", place)
        texts.append(text)
    return texts


def _told(values: Json) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _result(asked: Asked, one: Json) -> tuple[int, float]:
    index, score = one.get("index"), one.get("relevance_score")
    if not isinstance(index, int) or not 0 <= index < len(asked.documents):
        raise _no_ranking(asked, f"it ranks a document {index!r}, of {len(asked.documents):,}")
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise _no_ranking(asked, f"the document {index} has the relevance_score {score!r}")
    return index, float(score)


def _no_ranking(asked: Asked, words: str) -> ModelFailed:
    return ModelFailed(asked.model, "invalid_json", words)

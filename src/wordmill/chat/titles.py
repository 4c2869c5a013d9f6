"""A conversation's title, made by the model that answers in it."""

import re
from typing import Any, Final

from wordmill.chat.reasoning import Splitter

LONGEST: Final = 80

_PROMPT: Final = (
    "Give this conversation a title of two to six words, in its own language, that says what it is "
    "about. Answer with the title alone."
)


def request(question: str, answer: str) -> dict[str, Any]:
    """What is asked. Long texts are cut: a title needs their beginning. The answer has room for
    the thoughts of a model that thinks first."""
    return {
        "messages": [
            {"role": "user", "content": question[:2000]},
            {"role": "assistant", "content": answer[:2000]},
            {"role": "user", "content": _PROMPT},
        ],
        "max_tokens": 500,
    }


def cleaned(text: str) -> str:
    """The title in an answer; "" where there is none."""
    splitter = Splitter()
    text = splitter.add(text)[0] + splitter.rest()[0]
    line = next((one for one in text.strip().splitlines() if one.strip()), "")
    line = re.sub(r"^(?:\W*title\W*:)?[\s\"'“”„«»#*_`]+|[\s\"'“”„«»*_`.]+$", "", line, flags=re.I)
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rsplit(" ", 1)[0] + "…"

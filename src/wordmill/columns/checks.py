"""What a model says instead of answering: refusals, and texts that speak of being a model.

The phrases are those that models write. A refusal begins the text; "as an AI" may stand anywhere.
Either takes a microsecond to find absent.
"""

import re
from typing import Literal, TypeAlias

from wordmill.types import CellError

Check: TypeAlias = Literal["refusal", "as_an_ai"]

_HEAD = 300
"""A refusal shows within so many characters."""

_LEAD = (
    r"(?:(?:i'm|i am|we're|we are) (?:very |so |really |truly )?sorry|sorry"
    r"|(?:i |we )?(?:must |do )?apologi[sz]e|(?:my )?(?:sincere |sincerest )?apologies"
    r"|unfortunately|regrettably|i regret(?: to say)?"
    r"|(?:i|we) (?:appreciate|understand|recogni[sz]e) [^.!?\n]{0,80}"
    r"|thank you [^.!?\n]{0,80}|as an? [^,.!?\n]{2,60})"
)
_GAP = r"[\s,.!;:-]*(?:(?:but|that|however)\b[\s,]*)?"
_UNABLE = (
    r"(?:i|we)(?: can't| cannot| can not| won't| will not)(?: be able to)?"
    r"|(?:i'm|i am|we're|we are)(?: not able to| unable to| not comfortable| not going to"
    r"| not allowed to| not permitted to| afraid (?:that )?(?:i|we) (?:can't|cannot))"
    r"|(?:i|we) (?:do not|don't) feel comfortable|i'd rather not|i would rather not"
)
_VERB = (
    r"(?:to |in |with )?(?:answer|assist|comply|complet|continu|creat|discuss|do that|do this"
    r"|engag|fulfil|generat|go along|help|make|offer|participat|proceed|produc|provid|respond"
    r"|shar|support|take part|writ(?:e|ing)\b)"
)
_REFUSAL = re.compile(
    rf"[\s\"*]*(?:{_LEAD}{_GAP}){{0,2}}"
    rf"(?:(?:{_UNABLE}) {_VERB}"
    r"|(?:i|we)(?: must| have to|'m going to have to| will have to|'ll have to)?"
    rf"(?: respectfully| politely)? (?:decline|refuse)(?:[.,!]|$| {_VERB}| your)"
    r"|(?:this|your|that) request (?:goes against|violates|is against|cannot be))"
)
_OPENINGS = (
    "i'd", "i'll", "i'm", "i am", "i apolog", "i appreciate", "i can", "i decline", "i do",
    "i have to", "i must", "i politely", "i recogni", "i refuse", "i regret", "i respectfully",
    "i understand", "i will", "i won", "i would", "we", "apolog", "as a", "my ", "regrettably",
    "sincere", "sorry", "that request", "thank you", "this request", "unfortunately",
    "your request",
)  # fmt: skip
"""Every refusal begins so; most texts do not, and are spared the expression."""

_AS_AN_AI = re.compile(
    r"\bas an? (?:\w+ ){0,2}?(?:ai|artificial intelligence|language model)"
    r"(?: (?:language )?(?:model|assistant|system|chatbot))?"
    r"(?=\s*(?:[,.!]|[-\u2013\u2014:]|i\b|(?:developed|created|made|trained|built|designed)\b|$))"
    r"|\bi(?:'m| am) (?:just |only |merely )?an? (?:\w+ ){0,2}?"
    r"(?:ai|artificial intelligence|language model)"
    r"(?: (?:language )?(?:model|assistant|system|chatbot))?"
    r"(?=\s*(?:[,.;!:]|(?:and|so|without|that)\b"
    r"|(?:developed|created|made|trained|built|designed)\b|$))"
)
"""Of the writer itself: "as an AI, I ...", "I am a language model."; not "hired as an AI tutor"."""

_HINTS = (" AI", " ai ", " ai,", "anguage model", "rtificial intelligence")


def refused(text: str) -> CellError | None:
    """A refusal at the beginning of a text, stripped at its ends."""
    head = text[:_HEAD].lower().replace("\u2019", "'").lstrip(' "*\n')
    if not head.startswith(_OPENINGS) or not _REFUSAL.match(head):
        return None
    return refusal(text)


def refusal(words: str) -> CellError:
    """The failure `refused`, with the model's own words, shortened."""
    line = " ".join(words.split())
    return CellError("refused", line if len(line) <= 120 else f"{line[:117]}...")


def as_an_ai(text: str) -> CellError | None:
    """A text that speaks of its writer as an AI."""
    for hint in _HINTS:
        if hint in text:
            break
    else:
        return None
    found = _AS_AN_AI.search(text.lower().replace("\u2019", "'"))
    return CellError("as_an_ai", f'the text says "{found[0]}"') if found else None

"""Secrets taken out of what is logged, stored or shown.

Two nets: the exact values that are known (keys just used), in the forms in which a server may give
them back, and what looks like a key to anyone. Encryption is no part of this.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "********"

_SHORTEST = 4
"""A shorter value would take harmless letters out of every text."""

_LOOKS = (
    # Authorization: Bearer abc, also inside JSON
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=*-]{6,}"), rf"\1\2{HIDDEN}"),
    # api_key=abc, "x-api-key": "abc", ?key=abc, access_token=abc, password: abc
    (
        re.compile(
            r"""(?ix)
            ( (?: [?&] key | \b (?:x-)? api[_-]?key | \b access[_-]?token | \b auth[_-]?token
                | \b client[_-]?secret | \b password )
              ["']? \s* [=:] \s* ["']? )
            [^\s"'&,;}{<>]{4,}
            """
        ),
        rf"\1{HIDDEN}",
    ),
    # https://user:password@host
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@:\"']*:[^\s/@\"']+@"), rf"\1{HIDDEN}@"),
    # Keys by their makers' prefixes, also when the server has starred their middle
    (
        re.compile(
            r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|github_pat|nvapi|pplx|r8|tgp|csk|fw)"
            r"[-_][A-Za-z0-9_*.-]{8,}"
        ),
        HIDDEN,
    ),
    (re.compile(r"\bAIza[A-Za-z0-9_*-]{12,}"), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), HIDDEN),
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without secrets.

    secrets: known values; those shorter than four characters are not looked for. They are found
    as they are, as in a URL and as in JSON. What merely looks like a key goes too.
    """
    forms = {
        form
        for secret in secrets
        if len(secret) >= _SHORTEST
        for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    }
    for form in sorted(forms, key=len, reverse=True):  # a longer one may hold a shorter one
        text = text.replace(form, HIDDEN)
    for pattern, instead in _LOOKS:
        text = pattern.sub(instead, text)
    return text

"""Code in colours, by Pygments."""

from collections.abc import Iterator
from typing import Final

LONGEST: Final = 50_000
"""Characters of a block that is coloured; a longer one stands as it is."""

_LOOKS: Final = (  # of the token whose name begins so, the first that fits
    ("Token.Keyword", frozenset({"strong"}), "00579B"),
    ("Token.Comment", frozenset({"emphasis"}), "6B7280"),
    ("Token.Literal.String", frozenset[str](), "1B7F3B"),
    ("Token.Literal.Number", frozenset[str](), "B45309"),
    ("Token.Name.Function", frozenset[str](), "6F42C1"),
    ("Token.Name.Class", frozenset[str](), "6F42C1"),
    ("Token.Name.Tag", frozenset({"strong"}), "00579B"),
    ("Token.Name.Attribute", frozenset[str](), "B45309"),
    ("Token.Name.Builtin", frozenset[str](), "0F766E"),
    ("Token.Generic.Deleted", frozenset[str](), "B42318"),
    ("Token.Generic.Inserted", frozenset[str](), "1B7F3B"),
)


def colored(text: str, language: str) -> Iterator[tuple[str, frozenset[str], str]]:
    """The code in pieces: words, how they are set, and their colour in hex or ""."""
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        lexer = None
    if lexer is None or len(text) > LONGEST:
        yield text, frozenset(), ""
        return
    for token, words in lexer.get_tokens(text):
        name = str(token)
        styles, color = next(
            ((styles, color) for start, styles, color in _LOOKS if name.startswith(start)),
            (frozenset[str](), ""),
        )
        yield words, styles, color

"""What a form allows next, by llguidance.

Its mask comes as bits and is spread out here: the package's own way of applying it to a tensor
compiles a kernel first, and is slower by far on a processor (measured).
"""

from typing import Any, Final

import numpy as np
import torch

from wordmill.backends.base import Form
from wordmill.backends.grammar import grammar
from wordmill.errors import ConfigError, ExtraMissing, InvalidInput

COMPACT: Final[Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON is written in one way: a model with nothing to say would fill it with blanks."""
ANY: Final = '{"type": "object"}'


class Forms:
    """Makes what a form allows, for one tokenizer. ends: the tokens that end an answer."""

    def __init__(self, tokenizer: str, vocabulary: int, ends: frozenset[int]) -> None:
        try:
            import llguidance
            from llguidance.gbnf_to_lark import gbnf_to_lark
        except ImportError as error:
            raise ExtraMissing("The package llguidance", "torch") from error
        self._library, self._lark = llguidance, gbnf_to_lark
        self._vocabulary = vocabulary
        try:
            self._tokenizer = llguidance.LLTokenizer(
                tokenizer, n_vocab=vocabulary, eos_token=sorted(ends) or None
            )
        except ValueError as error:
            raise ConfigError(
                f"The model's tokenizer cannot be used for structured output: {error}."
            ) from error

    def allowed(self, form: Form) -> "FormAllowed":
        """For one answer. Raises InvalidInput for a form that cannot be followed."""
        matcher = self._library.LLMatcher
        try:
            if form.kind in ("json", "json_schema"):
                text = matcher.grammar_from_json_schema(form.text or ANY, defaults=COMPACT)
            else:
                # As on the other engines: of an expression, `\d` is 0 to 9 on each of them.
                text = matcher.grammar_from_lark(self._lark(grammar(form)))
        except ValueError as error:
            raise InvalidInput(
                f"The answer's form cannot be read: {error}", "response_format"
            ) from (error)
        made = matcher(self._tokenizer, text)
        if made.is_error():
            words = made.get_error().splitlines()[0].rstrip(".")
            raise InvalidInput(f"The answer's form cannot be followed: {words}.", "response_format")
        return FormAllowed(made, self._vocabulary)


class FormAllowed:
    """What may come next in one answer."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def mask(self) -> Any:
        """Booleans (vocabulary): True for each token that may come."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        spread = np.unpackbits(bits, bitorder="little")[: self._vocabulary]
        return torch.from_numpy(spread.astype(bool))

    def took(self, token: int) -> None:
        """That token came."""
        self._matcher.consume_token(token)

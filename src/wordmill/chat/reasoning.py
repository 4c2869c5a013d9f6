"""Reasoning that a server sends inside the text, told apart from the answer.

Most servers have a field of its own for it. Others pass on what the model wrote: an answer that
begins with `<think>`, the reasoning, `</think>`, and then what is meant for the reader. A tag may
come in pieces; a tag in the middle of an answer is part of the answer.
"""

from typing import Final, Literal, TypeAlias

TAGS: Final = ("think", "thinking")

_Place: TypeAlias = Literal["before", "inside", "after"]


class Splitter:
    """Takes the pieces of one answer and gives each as (text, reasoning)."""

    def __init__(self) -> None:
        self._place: _Place = "before"
        self._held = ""
        """What may be the beginning of a tag."""
        self._end = ""

    def add(self, piece: str) -> tuple[str, str]:
        """A piece as it came; what is certain by now."""
        if self._place == "after":
            return piece, ""
        self._held += piece
        if self._place == "before":
            return self._before()
        return self._inside()

    def rest(self) -> tuple[str, str]:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return ("", held) if self._place == "inside" else (held, "")

    def _before(self) -> tuple[str, str]:
        begun = self._held.lstrip()
        for tag in TAGS:
            if begun.startswith(f"<{tag}>"):
                self._place, self._end = "inside", f"</{tag}>"
                self._held = begun.removeprefix(f"<{tag}>").lstrip("\n")
                return self._inside()
        if any(f"<{tag}>".startswith(begun) for tag in TAGS):
            return "", ""
        self._place = "after"
        return self.rest()

    def _inside(self) -> tuple[str, str]:
        thought, ended, said = self._held.partition(self._end)
        if ended:
            self._place, self._held = "after", ""
            return said.lstrip("\n"), thought
        sizes = range(len(self._end) - 1, 0, -1)
        kept = next((size for size in sizes if thought.endswith(self._end[:size])), 0)
        cut = len(thought) - kept
        self._held = thought[cut:]
        return "", thought[:cut]

"""Which way a text is read."""

import unicodedata


def is_right_to_left(text: str) -> bool:
    """Whether the first letter that has a direction goes from right to left."""
    for letter in text:
        match unicodedata.bidirectional(letter):
            case "R" | "AL":
                return True
            case "L":
                return False
    return False

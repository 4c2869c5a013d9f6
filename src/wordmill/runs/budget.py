"""Ceilings of a run, as a person writes them: `5usd`, `200000tokens`, `1000requests`."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from wordmill.errors import ConfigError

_PART = re.compile(r"(\$)?\s*(\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*([kKmM])?\s*([a-zA-Z]*)")
_UNITS: Mapping[str, str] = {
    "usd": "money", "dollar": "money", "dollars": "money",
    "token": "tokens", "tokens": "tokens",
    "request": "requests", "requests": "requests",
}  # fmt: skip
_EXAMPLES = "Write it as 5usd, 200000tokens, 1000requests, or several of them with a comma"


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a run may spend, all its sittings together; None is no ceiling.

    money: in the catalog's currency (USD).
    """

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def __str__(self) -> str:
        """As it would be written: `5usd,1000requests`; empty without a ceiling."""
        written = {"usd": self.money, "tokens": self.tokens, "requests": self.requests}
        return ",".join(f"{value:g}{unit}" if unit == "usd" else f"{value}{unit}"
                        for unit, value in written.items() if value is not None)  # fmt: skip

    def or_else(self, earlier: "Budget") -> "Budget":
        """These ceilings, and the earlier ones for what these say nothing about."""
        mine = {name: value for name, value in asdict(self).items() if value is not None}
        return Budget(**{**asdict(earlier), **mine})

    def ceilings(self) -> dict[str, float]:
        """Those that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def parse_budget(text: str) -> Budget:
    """Read ceilings from the command line. Raises ConfigError for anything else, and for zero."""
    found: dict[str, float] = {}
    for part in re.split(r"\s*[,;+]\s*(?!\d{3}(?!\d))", text.strip()):
        match = _PART.fullmatch(part.strip())
        unit = "money" if match and match[1] and not match[4] else None
        if match and match[4]:
            unit = _UNITS.get(match[4].lower())
        if match is None or unit is None:
            raise ConfigError(f"{part!r} is no budget. {_EXAMPLES}.")
        factor = {"": 1, "k": 1_000, "m": 1_000_000}[(match[3] or "").lower()]
        value = float(match[2].replace(",", "").replace("_", "")) * factor
        if value <= 0:
            raise ConfigError(f"A budget of {part!r} would send nothing. {_EXAMPLES}.")
        if unit in found:
            raise ConfigError(f"The budget {text!r} names {unit} twice. {_EXAMPLES}.")
        if unit != "money" and value != int(value):
            raise ConfigError(f"{part!r}: there are no parts of {unit}. {_EXAMPLES}.")
        found[unit] = value
    return Budget(
        requests=int(found["requests"]) if "requests" in found else None,
        tokens=int(found["tokens"]) if "tokens" in found else None,
        money=found.get("money"),
    )

"""The templates of the card and the report, compiled once and escaped by their ending."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

FOLDER: Final = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(enabled_extensions=("html.jinja",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment


def render(template: str, **values: object) -> str:
    """A page. What ends in `.html.jinja` escapes every value."""
    return _environment().get_template(template).render(**values)


def compile_pages() -> None:
    """Compile the templates now, and not at the end of a run."""
    for name in ("card.md.jinja", "report.html.jinja"):
        _environment().get_template(name)


def count(n: float) -> str:
    """A number for people: `12,500`, `0.25`, `3`."""
    if isinstance(n, float) and not n.is_integer():
        return f"{n:,.2f}" if abs(n) >= 1 else f"{n:.3g}"
    return f"{int(n):,}"


def percent(share: float) -> str:
    """A share for people: `12 %`, `0.4 %`, `0 %`; never rounded up to all or down to none."""
    value = 100 * share
    if value == 0 or value == 100:
        return f"{value:.0f} %"
    if value < 0.1:
        return "< 0.1 %"
    if value > 99.9:
        return "> 99.9 %"
    return f"{value:.1f} %" if value < 10 or value > 99 else f"{value:.0f} %"


def money(amount: float, currency: str) -> str:
    """An amount for people: `$0.31`, `$0.000042`, `12.00 EUR`."""
    digits = f"{amount:,.2f}" if amount == 0 or amount >= 0.01 else f"{amount:.2g}"
    if "e" in digits:
        digits = f"{amount:.10f}".rstrip("0")
    return f"${digits}" if currency == "USD" else f"{digits} {currency}"


def duration(seconds: float) -> str:
    """A time for people: `0.8 s`, `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rate(per_second: float) -> str:
    """A speed for people: `8,412`, `12`, `1.3`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def plural(n: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "count": count,
    "percent": percent,
    "money": money,
    "duration": duration,
    "plural": plural,
    "rate": rate,
}

"""The table of settings for the documentation."""

from wordmill.settings import PREFIX, table


def markdown() -> str:
    """The table for docs/settings.md."""
    lines = [
        "| setting | environment | default | unit | what it is |",
        "|---|---|---|---|---|",
    ]
    for name, row, default in table():
        shown = f"`{default}`" if default else "the system's" if name == "home" else ""
        words = [row.help, f"Written as {row.kind.expects}."]
        if row.secret:
            words.append(f"Also `{PREFIX}{name.upper()}_FILE`: a file that holds it.")
        if row.early:
            words.append("Not in the UI.")
        cells = [f"`{name}`", f"`{PREFIX}{name.upper()}`", shown, row.unit, " ".join(words)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"

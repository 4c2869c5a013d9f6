"""What the contestants are given: JSONL files of requests, single bodies, and the recipe.

All of it follows from the driver's contract, so that every tool asks the same in the same words.
"""

import json
import os
from pathlib import Path

from bench.places import BUILD
from drivers import contract

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
        "mood": {"type": "string", "enum": list(contract.MOODS)},
        "steps": {
            "type": "array",
            "minItems": 2,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "do": {"type": "string"},
                    "minutes": {"type": "number", "minimum": 0},
                },
                "required": ["do", "minutes"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "urgency", "mood", "steps"],
    "additionalProperties": False,
}


def requests_file(requests: int, *, named: bool = False) -> Path:
    """A file of that many requests, markers from 0; written once.

    named: as lines of a batch, with a `custom_id`.
    """
    file = BUILD / f"requests-{'batch-' if named else ''}{requests}.jsonl"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        with part.open("w") as lines:
            for marker in range(requests):
                body = contract.body(marker)
                line = {"custom_id": f"r{marker}", "body": body} if named else body
                lines.write(json.dumps(line) + "\n")
        part.rename(file)
    return file


def remove_large() -> None:
    """Remove the files of more than half a million requests: a gigabyte each, made in seconds."""
    for file in BUILD.glob("requests-*.jsonl"):
        if file.stat().st_size > 500_000_000:
            file.unlink()


def body_file(*, schema: bool = False) -> Path:
    """One request for `load`, its marker in eight digits that count up."""
    body = contract.body(0)
    if schema:
        form = {"name": "ticket", "strict": True, "schema": SCHEMA}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    file = BUILD / ("body-schema.json" if schema else "body.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body).replace("[#0]", "[#00000000]"))
    return file


def recipe_file() -> Path:
    """Two categories and one prompt of 1 KB, as a recipe; row n carries the marker n."""
    file = BUILD / "recipe.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "product": {"type": "category", "values": list(contract.PRODUCTS)},
        "mood": {"type": "category", "values": list(contract.MOODS)},
        "text": {
            "type": "prompt",
            "prompt": contract.prompt_template("row"),
            "parameters": {"max_tokens": contract.MAX_TOKENS},
        },
    }
    recipe = {"name": "bench", "seed": 7, "model": contract.MODEL, "columns": columns}
    file.write_text(json.dumps(recipe, indent=2) + "\n")  # JSON is YAML
    return file

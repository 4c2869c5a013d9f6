"""The small program that calls one function for a batch: texts come in, values go out, a line each.

It is started for a function (see `functions`), says a first line when it has imported it, reads
JSON lines and answers each with `{"value": ...}` or `{"error": "..."}`. Nothing of Wordmill is
imported here. What the function prints goes nowhere, so that it cannot be taken for an answer.

    python -I calling.py '["folders", "to import from"]' package.module function
"""

import importlib
import json
import os
import sys


def _words(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:500] if message else type(error).__name__


def _main(folders: str, module: str, name: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    sys.path[:0] = [folder for folder in json.loads(folders) if folder not in sys.path]
    function, wrong = None, ""
    try:
        function = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it may raise anything
        wrong = json.dumps({"error": f"{module}:{name} cannot be had: {_words(error)}"})
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        told = wrong
        if function is not None:
            try:
                told = json.dumps({"value": function(json.loads(line))}, allow_nan=False)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the function's own
                told = json.dumps({"error": _words(error)})
        answers.write(told + "\n")
        answers.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])

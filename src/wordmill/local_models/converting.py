"""Converts a model for OpenVINO: a program for the converter's own Python, which has no Wordmill.

Reads `{"model", "to", "out", "text"}` as a line of JSON, says `{"step"}` as it goes on, and at the
end `{"before", "after"}`: perplexities of the text, null where it is too short to have one.
"""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

WINDOW = 256
"""Tokens that are read at once."""
MOST = 2048
"""Tokens of the text that are read in all."""


def perplexity(windows: "list[list[int]]", logits: "Any") -> "float | None":
    """How surprised a model is by a token on average: e to the mean of -ln p. Lower is better.

    windows: token ids, each window of two or more.  logits: of a window, an array (tokens, words).
    Returns None for no windows, inf for logits that are not finite.
    """
    import numpy as np

    total, count = 0.0, 0
    for window in windows:
        scores = np.asarray(logits(window), dtype=np.float64)[:-1]
        if not np.isfinite(scores).all():
            return math.inf
        scores -= scores.max(axis=-1, keepdims=True)
        rest = np.log(np.exp(scores).sum(axis=-1))
        chosen = scores[np.arange(len(window) - 1), window[1:]]
        total += float((rest - chosen).sum())
        count += len(window) - 1
    return math.exp(min(total / count, 700.0)) if count else None


def windows_of(ids: "list[int]") -> "list[list[int]]":
    """A text in windows that fit any model."""
    ids = ids[:MOST]
    cut = [ids[at : at + WINDOW] for at in range(0, len(ids), WINDOW)]
    return [window for window in cut if len(window) > 1]


def before(model: Path, windows: "list[list[int]]") -> "float | None":
    """Of the model as it is, in full precision."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()

    def logits(window: "list[int]") -> Any:
        with torch.no_grad():
            return loaded(torch.tensor([window])).logits[0].float().numpy()

    return perplexity(windows, logits)


def after(folder: Path, windows: "list[list[int]]") -> "float | None":
    """Of what was made, by the runtime that will run it."""
    import numpy as np
    import openvino

    compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU")
    names = {name for one in compiled.inputs for name in one.names}

    def logits(window: "list[int]") -> Any:
        length = len(window)
        given = {
            "input_ids": np.array([window], dtype=np.int64),
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "position_ids": np.arange(length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        request = compiled.create_infer_request()
        found = request.infer({name: value for name, value in given.items() if name in names})
        return found[0][0]

    return perplexity(windows, logits)


def main() -> int:
    """The program."""
    wish = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    model, out = Path(wish["model"]), Path(wish["out"])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    windows = windows_of(tokenizer(wish["text"])["input_ids"])
    _say(step="measuring")
    first = before(model, windows)
    if first is not None and not math.isfinite(first):
        _say(error=f"{model.name} gives no numbers (NaN): its weights are damaged.")
        return 2
    _say(step="converting", before=first)
    command = [
        sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino",
        "--model", str(model), "--task", "text-generation-with-past",
        "--weight-format", wish["to"], str(out),
    ]  # fmt: skip
    if wish["to"] == "int4":  # not every layer's width is a multiple of the usual group's
        command[-1:-1] = ["--group-size-fallback", "adjust"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode or not (out / "openvino_model.xml").is_file():
        words = [line for line in done.stderr.splitlines() if line.strip()]
        _say(error=f"The converter failed: {words[-1][:500] if words else done.returncode}")
        return 2
    _say(step="measuring", before=first)
    second = after(out, windows)
    _say(before=first, after=second)
    return 0


def _leave_with_parent() -> None:
    """Whoever started this has gone: the group ends, with the converter that this has started."""
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def _say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

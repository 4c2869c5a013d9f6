"""What transformers' `generate` answers in fp32: the yardstick of every engine.

The rows are in tests/golden/local_models.json. `python -m tests.backends.reference` writes them,
in the environment that has torch; tests/backends_torch compares them with what it says today.
"""

import json
import random
from pathlib import Path
from typing import Any

from tests.servers import tiny_models

GOLDEN = Path(__file__).parent.parent / "golden" / "local_models.json"
NEW = 24
LENGTHS = (5, 17, 40, 300)


def prompts() -> list[list[int]]:
    """Tokens that every tiny model knows, none of them special."""
    draw = random.Random(7)
    return [[draw.randrange(20, 500) for _ in range(length)] for length in LENGTHS]


def rows() -> dict[str, Any]:
    """As they stand in the file, by family."""
    held: dict[str, Any] = json.loads(GOLDEN.read_text())
    return held


def generate(folder: Path) -> dict[str, Any]:
    """The rows of one model, by `generate`."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig()
    made: dict[str, list[list[int]]] = {"greedy": [], "penalty": [], "beams": []}
    logprobs: list[float] = []
    for prompt in prompts():
        tokens = torch.tensor([prompt])
        common: Any = {
            "attention_mask": torch.ones_like(tokens),
            "max_new_tokens": NEW,
            "do_sample": False,
            "pad_token_id": 0,
        }
        told = model.generate(tokens, output_logits=True, return_dict_in_generate=True, **common)
        made["greedy"].append(told.sequences[0, len(prompt) :].tolist())
        logprobs.append(float(told.logits[0][0].log_softmax(-1).max()))
        for name, more in (("penalty", {"repetition_penalty": 1.3}), ("beams", {"num_beams": 3})):
            answer = model.generate(tokens, **common, **more)
            made[name].append(answer[0, len(prompt) :].tolist())
    return {**made, "first_logprob": logprobs}


def main() -> None:
    """Write the file anew."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        whole = {
            family: generate(tiny_models.build(Path(folder) / family, family))
            for family in tiny_models.DECODERS
        }
    GOLDEN.write_text(json.dumps(whole) + "\n")


if __name__ == "__main__":
    main()

"""Tiny models in OpenVINO's form. A program for the converter's own environment.

`python tests/servers/tiny_openvino.py FOLDER` builds a folder for each family below FOLDER/plain
and its conversion below FOLDER/openvino, all in one process: most of the time goes into imports.
"""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tiny_models

TASKS = {"bert": "feature-extraction", "bert-ranker": "text-classification"}


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    import openvino
    from openvino_tokenizers import convert_tokenizer
    from optimum.exporters.openvino import main_export
    from transformers import AutoTokenizer

    for family in tiny_models.FAMILIES:
        plain = tiny_models.build(folder / "plain" / family, family)
        task = TASKS.get(family, "text-generation-with-past")
        made = folder / "openvino" / family
        main_export(str(plain), output=made, task=task)
        read, write = convert_tokenizer(AutoTokenizer.from_pretrained(plain), with_detokenizer=True)
        openvino.save_model(read, made / "openvino_tokenizer.xml")
        openvino.save_model(write, made / "openvino_detokenizer.xml")
    broken = tiny_models.build(folder / "plain" / "broken", "llama", broken=True)
    main_export(
        str(broken), output=folder / "openvino" / "broken", task="text-generation-with-past"
    )
    (folder / "ready").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

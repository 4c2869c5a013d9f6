"""Makes a model for OpenVINO out of a local one: at full precision, at 8 or at 4 bits.

What converts wants other versions of its libraries than what runs, so it has an environment of its
own, made when it is first needed and kept; or the one of the setting `converter_python`. The
conversion is a process (`converting`), ended at once when nobody wants it any more. One runs at a
time on a machine, since each takes the memory of a whole model; what one that was killed left is
swept by the next. The result gets its name only when it is whole; how much it lost is told by the
perplexity of a text, before and after.
"""

import fcntl
import json
import os
import shutil
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from wordmill.database import now
from wordmill.errors import InvalidInput, StorageError
from wordmill.local_models import converting
from wordmill.local_models.child import Json, run
from wordmill.local_models.fit import SPARE, size
from wordmill.local_models.local_models import LocalModels
from wordmill.local_models.machine import room, this_machine
from wordmill.local_models.types import BYTES, LocalModel
from wordmill.local_models.weights import facts_of
from wordmill.processes import environment
from wordmill.storage import said, write_whole

TO: Final[dict[str, str]] = {"float32": "fp32", "float16": "fp16", "int8": "int8", "int4": "int4"}
"""What one can ask for, and the converter's word for it. bfloat16 is how a full one is run."""

PACKAGES: Final = (
    "optimum-intel[openvino]>=2.2,<3",
    "openvino-tokenizers",
    "transformers==5.0.0",  # with later ones the converter refuses GPT-2 and encoders
)
_QUIET: Final = {
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
LOCK: Final = "converter.lock"
LOOK: Final = 0.2
"""Seconds between two looks whether the other conversion has ended."""
TEXT: Final = 20_000
"""Characters of a text on which perplexity is measured; of a longer one, the first."""
SAMPLE: Final = (
    "The mill stood where the river bends, and its wheel had turned for longer than anybody in the "
    "village could remember. In spring the water came down from the hills with so much force that "
    "the miller had to close two of the three gates; in late summer he opened all of them and "
    "still waited until noon before the stones began to move. People brought wheat and rye, and "
    "sometimes barley, in sacks that carried their names. They stayed for a while, talked about "
    "the weather and the price of salt, and went home in the evening with flour. A good miller, "
    "they used to say, can tell by the sound whether the grain is dry. What he hears is how the "
    "stones answer: a dry grain breaks, a damp one smears. So he listens, turns a screw by the "
    "width of a hair, and listens again. Measuring came later. When the first instruments arrived, "
    "they agreed with him on most days, and on the others it took a week to find out who was "
    "right."
)
"""What is read where nobody gives a text."""

Heard = Callable[[Json], None]
Stop = Callable[[], bool]


def quantize(
    models: LocalModels,
    name: str,
    to: str,
    owner: str,
    heard: Heard,
    stop: Stop,
    *,
    called: str = "",
    text: str = "",
) -> LocalModel:
    """A new model, made out of a local one.

    to: a key of `TO`.  called: its name; NAME-int8 without.  text: for the perplexity.
    heard: `{"step": "converting"}`, with `before` once that perplexity was measured; `waiting`
    while another conversion runs.
    Raises UnknownName, ConfigError for the name; InvalidInput for a model that cannot be converted;
    StorageError for too little room or a converter that failed; InterruptedError after a `stop`.
    """
    with _alone(models.folder, heard, stop):
        model = models.registry.find(name)
        if to not in TO:
            raise InvalidInput(f"A model can be made {', '.join(TO)}, not {to[:40]!r}.", "to")
        if model.form != "safetensors" or model.facts.task != "chat":
            raise InvalidInput(
                f"{name} is kept as {model.form} for {model.facts.task}; what can be converted is "
                "a chat model of safetensors."
            )
        if model.remote_code:
            raise InvalidInput(f"{name} runs code of its own, which the converter does not.")
        called = called or f"{name}-{to}"
        models.registry.check_free(called)
        made = models.folder / "made"
        place = made / called
        for other in models.registry.all():
            if other.path == place:
                raise InvalidInput(f"{other.name} is kept at {place}: choose another name.", "name")
        with said(made):
            made.mkdir(parents=True, exist_ok=True)
            for left in [*made.glob(".*.part"), place]:  # of a conversion that was killed
                shutil.rmtree(left, ignore_errors=True)
        _check_room(models, model, to)
        python = _python(models, heard, stop)
        making = made / f".{place.name}.part"
        wish = {
            "model": str(model.path), "to": TO[to], "out": str(making),
            "text": (text or SAMPLE)[:TEXT],
        }  # fmt: skip
        try:
            done = run(
                "", json.dumps(wish), heard, stop, python=str(python),
                arguments=("-I", converting.__file__), folder=made,
                extra=_QUIET,
            )  # fmt: skip
            write_whole(making / "wordmill.json", json.dumps({"dtype": to, "made_from": name}))
            facts = facts_of(making)
            with said(place):
                making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        quality = {
            key: float(done[key]) for key in ("before", "after") if done.get(key) is not None
        }
        at = now()
        made_model = LocalModel(
            name=called, source="made", form="openvino", path=place, owner=owner, created=at,
            updated=at, license=model.license, made_from=name, quality=quality,
            size=sum(one.stat().st_size for one in place.rglob("*") if one.is_file()),
            facts=replace(facts, parameters=model.facts.parameters),
        )  # fmt: skip
        try:
            return models.registry.add(made_model)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise


@contextmanager
def _alone(folder: Path, heard: Heard, stop: Stop) -> Iterator[None]:
    """While no other process of this machine converts a model; waits until then."""
    with said(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w", encoding="ascii")
    with file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stop():
                    raise InterruptedError from None
                if not told:
                    heard({"step": "waiting"})
                    told = True
                time.sleep(LOOK)
            else:
                break
        yield


def _check_room(models: LocalModels, model: LocalModel, to: str) -> None:
    parameters = model.facts.parameters
    disk = round(parameters * BYTES[to]) + SPARE
    if disk > room(models.folder):
        raise StorageError(
            f"{model.name} as {to} has about {size(disk)}, and the disk has room for "
            f"{size(room(models.folder))}."
        )
    memory, free = parameters * 8 + (1 << 30), this_machine().free
    if memory > free:
        raise InvalidInput(
            f"Converting {model.name} takes about {size(memory)} of memory, and {size(free)} are "
            "free. Fetch one that is converted already: many owners on the hub offer them."
        )


def _python(models: LocalModels, heard: Heard, stop: Stop) -> Path:
    """The interpreter of the converter's environment, which is made if need be."""
    given = models.settings.converter_python
    if given is not None:
        if not given.is_file():
            raise InvalidInput(f"The setting converter_python names {given}, which is not there.")
        return given
    place = models.folder / "converter"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (place / "ready").is_file():
        return python
    heard({"step": "preparing"})
    with said(place):
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True, symlinks=os.name != "nt")
        _install(python, stop)
        (place / "ready").write_text("\n".join(PACKAGES) + "\n")
    return python


def _install(python: Path, stop: Stop) -> None:
    arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if sys.platform == "linux" and sysconfig.get_platform().endswith("x86_64"):
        # Torch for the processor alone: a tenth of what the registry would give.
        arguments += ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
    env = environment({name: os.environ[name] for name in os.environ if name.startswith("PIP_")})
    run("", "", lambda _: None, stop, python=str(python), arguments=[*arguments, *PACKAGES],
        extra=env, silent=True)  # fmt: skip

"""A project folder with models in its wordmill.toml, and the `wordmill` command."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMAND = str(Path(sys.executable).parent / "wordmill")

TICKETS = """\
name: tickets
seed: 7
model: mock
columns:
  product: {type: category, values: [laptop, phone], weights: [2, 1]}
  mood:    {type: category, values: [calm, angry]}
  ticket:  {type: prompt, prompt: "A {{ mood }} customer writes about a {{ product }}."}
  urgency:
    type: prompt
    prompt: "How urgent is this? {{ ticket }}"
    schema:
      type: object
      properties: {level: {type: integer, minimum: 1, maximum: 5}}
      required: [level]
  verdict: {type: judge, of: ticket, scores: {realism: "0 to 4, is it believable?"}}
keep: verdict.realism >= 2
"""

SHORT = """\
name: notes
model: mock
columns:
  mood: {type: category, values: [calm, angry]}
  note: {type: prompt, prompt: "Write a {{ mood }} note."}
"""


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Project:
    """A folder in which commands run."""

    folder: Path
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def model(self, name: str, url: str, **fields: Any) -> None:
        """Describe a model in wordmill.toml."""
        self.models[name] = {"base_url": url, "model": name, **fields}
        lines = []
        for model, values in self.models.items():
            lines.append(f"[models.{model}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (self.folder / "wordmill.toml").write_text("\n".join(lines) + "\n")

    def recipe(self, text: str, name: str = "recipe.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            [COMMAND, *words],
            cwd=self.folder,
            text=True,
            env={**os.environ, "COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            **options,
        )

    def run(self, *words: str) -> Done:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Project(folder)

"""The house keeps its shape: imports point down, and importing a module does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "wordmill"

# Each layer may import from those below it, and from itself where that is said.
LAYERS: list[tuple[set[str], bool]] = [
    ({"cli", "channels"}, True),
    ({"backups"}, True),
    ({"commands"}, True),
    ({"chat"}, True),
    ({"runs", "recipes", "datasets", "batches"}, True),
    ({"queues"}, True),
    ({"completions", "jobs"}, True),
    ({"accounts"}, True),
    ({"model_server"}, True),
    ({"local_models"}, True),
    ({"models"}, True),
    ({"providers"}, True),
    ({"backends"}, True),
    ({"columns"}, True),
    ({"exports"}, True),
    ({"documents"}, True),
    ({"stores"}, True),
    (
        {
            "plugins",
            "database",
            "migrations",
            "storage",
            "outbound",
            "processes",
            "rendering",
            "secrets",
            "sharing",
            "telemetry",
            "_engine",
        },
        True,
    ),
    ({"settings", "types", "errors"}, True),
]
SEAMS = {"providers", "columns", "transforms", "loaders", "backends", "queues", "stores", "exports"}
RANK = {name: rank for rank, (names, _) in enumerate(LAYERS) for name in names}


def imports() -> list[tuple[Path, str, str]]:
    """(file, its part, the part it imports) for every import of our own, type checking ones too."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == "wordmill":
                    names = [f"wordmill.{alias.name}" for alias in node.names]
            for name in names:
                root, _, rest = name.partition(".")
                if root == "wordmill" and rest:
                    found.append((file, parts[0], rest.split(".")[0]))
    return found


def test_imports_point_down_and_seams_never_import_each_other():
    wrong = []
    for file, importer, imported in imports():
        if importer == "__init__" or imported not in RANK or importer == imported:
            continue
        assert importer in RANK, (
            f"{importer} has no place in the map: give it one here and in the design"
        )
        if importer in SEAMS and imported in SEAMS:
            wrong.append(f"{file}: the seam {importer} imports the seam {imported}")
        elif RANK[importer] > RANK[imported]:
            wrong.append(f"{file}: {importer} imports {imported}, which is above it")
    assert wrong == []


def test_every_part_has_a_place():
    parts = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"__init__"} - set(RANK) == set()


def test_no_module_outgrows_the_house():
    long = {}
    for file in PACKAGE.rglob("*.py"):
        lines = file.read_text(encoding="utf-8").count("\n")
        if lines > 600:
            long[str(file.relative_to(PACKAGE))] = lines
    assert long == {}


# What the way to the first request may load; the rest waits until it is needed.
LATE = ["pyarrow", "rich", "alembic", "numpy", "torch"]


@pytest.mark.parametrize(
    "module", ["wordmill", "wordmill.cli.generate", "wordmill.models", "wordmill.runs"]
)
def test_importing_does_nothing_heavy_and_touches_nothing(module, tmp_path):
    code = f"""
import os, sys
import {module}
print(sorted(set({LATE}) & set(sys.modules)), os.listdir({str(tmp_path)!r}))
"""
    home = {"HOME": str(tmp_path), "WORDMILL_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    path = {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=home | path,
        cwd=tmp_path,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] []\n", "")


def test_every_plugin_of_the_table_loads():
    from wordmill import plugins

    for kind, names in plugins.BUILT_IN.items():
        for name in names:
            assert isinstance(plugins.load(kind, name), type), f"{kind} {name}"

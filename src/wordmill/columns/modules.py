"""Functions by import path: found, imported, and known by the text that they are made of.

A module is looked for in the recipe's folder first. What lies there is read without being run, to
see which other files of the folder it imports; so a change to any of them is a change of the
recipe. An installed module is known by its own file alone.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from wordmill.columns.files import fingerprint
from wordmill.errors import RecipeError, nearest
from wordmill.types import Value

Function = Callable[[Value], Value]

_imported: dict[Path, str] = {}
"""The fingerprint that a module of a recipe's folder had when it was imported."""


def split(path: str) -> tuple[str, str]:
    """Module and name of `package.module:name`. Raises ValueError, in words, for anything else."""
    module, colon, name = path.partition(":")
    if not (colon and name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise ValueError(f"a function is written `package.module:name`, not {path!r}")
    return module, name


def source_of(path: str, folder: Path) -> str:
    """32 hex digits of the text behind a function; "" for what is no text, or not found.

    folder: of the recipe.
    """
    module, _ = split(path)
    files = _local_files(module, folder.absolute())
    if files:
        return _fingerprint(files)
    try:
        spec = find_spec(module)
    except (Exception, SystemExit):  # noqa: BLE001 - a package above it may raise anything
        return ""  # importing it says why
    origin = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    return fingerprint(origin) if origin and origin.is_file() else ""


def load(path: str, folder: Path, where: str) -> Function:
    """Import a function; anew, where its text has changed since this process did so.

    folder: of the recipe.  where: the option, for messages.  Raises RecipeError.
    """
    module_name, name = split(path)
    folder = folder.absolute()
    _look_in(folder, module_name)
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name
        if missing:
            raise RecipeError(
                f"there is no module {module_name!r} in {str(folder)!r}, the recipe's folder, and "
                "none is installed.",
                where,
            ) from error
        raise RecipeError(
            f"the module {module_name!r} does not import: {words(error)}.", where
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [word for word, part in vars(module).items() if inspect.isfunction(part)]
        raise RecipeError(
            f"the module {module_name!r} has no function {name!r}{nearest(name, known)}", where
        )
    if inspect.iscoroutinefunction(function):
        raise RecipeError(f"{path!r} is an async function; a column calls plain ones.", where)
    return cast(Function, function)


def words(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:500] if message else type(error).__name__


def _look_in(folder: Path, module_name: str) -> None:
    """Put the folder first, and forget modules of another folder, and those that have changed."""
    top = module_name.partition(".")[0]
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    invalidate_caches()
    files = _local_files(module_name, folder)
    if not files:
        return
    text = _fingerprint(files)
    origin = getattr(sys.modules.get(top), "__file__", None)
    elsewhere = origin is not None and not Path(origin).is_relative_to(folder)
    if elsewhere or _imported.get(files[0], text) != text:
        ours = {str(file) for file in files}
        for name, module in list(sys.modules.items()):
            of_top = name == top or name.startswith(f"{top}.")
            if of_top or getattr(module, "__file__", None) in ours:
                del sys.modules[name]
        sys.path.remove(str(folder))
        sys.path.insert(0, str(folder))
    _imported[files[0]] = text


# What a module is made of ---------------------------------------------------------------------


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(f"{file.name} {fingerprint(file, str(file))}\n".encode())
    return digest.hexdigest()


def _local_files(module: str, folder: Path) -> list[Path]:
    """The module's file in a folder, then those of the folder that it needs, in a fixed order."""
    found: dict[Path, None] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for part in _with_packages(name):
            file = _file(part, folder)
            if file is not None and file not in found:
                found[file] = None
                package = part if file.name == "__init__.py" else part.rpartition(".")[0]
                waiting += sorted(_imports(file, package))
    own = _file(module, folder)
    if own is None:
        return []
    return [own, *sorted(found.keys() - {own})]


def _with_packages(module: str) -> Iterator[str]:
    """`a`, `a.b`, `a.b.c` of `a.b.c`: importing one runs them all."""
    parts = module.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def _file(module: str, folder: Path) -> Path | None:
    place = folder.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return None


def _imports(file: Path, package: str) -> set[str]:
    """Names of modules that a file may import, anywhere in it. package: the one that it is in."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()  # importing it says why
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else ()), *([node.module] if node.module else ())]
            )
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return {name for name in names if name and not name.startswith(".")}

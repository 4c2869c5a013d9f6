"""Functions by import path: found, imported, and known by the text that they are made of.

A module is looked for in the recipe's folder first. What lies there is read without being run, to
see which other files of the folder it imports; so a change to any of them is a change of the
recipe. An installed module is known by its own file alone.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from wordmill.columns.files import fingerprint
from wordmill.errors import RecipeError, nearest
from wordmill.types import Value

Function = Callable[[Value], Value]

_seen: dict[Path, str] = {}
"""The fingerprint that a module of a recipe's folder had when it was imported, by its file."""

_folders: set[Path] = set()
"""Folders of recipes that modules were imported from."""


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
    local = _local_modules(module, folder.absolute())
    if local:
        return _fingerprint(local.values())
    try:
        spec = find_spec(module)
    except (Exception, SystemExit):  # noqa: BLE001 - a package above it may raise anything
        return ""  # importing it says why
    origin = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    return fingerprint(origin) if origin and origin.is_file() else ""


def is_local(path: str, folder: Path) -> bool:
    """Whether a function's module lies in a folder."""
    return bool(_local_modules(split(path)[0], folder.absolute()))


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
    """Put the folder first, and forget modules that are another's under these names, or changed."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    invalidate_caches()
    local = _local_modules(module_name, folder)
    if not local:
        return
    text = _fingerprint(local.values())
    changed = _seen.get(local[module_name], text) != text
    _seen[local[module_name]] = text
    _folders.add(folder.resolve())
    top = module_name.partition(".")[0]
    loaded = {name: _loaded_from(name) for name in local.keys() & sys.modules.keys()}
    anothers = {
        name
        for name, file in loaded.items()
        if file not in (None, local[name].resolve())
        # What is installed stays, also where the folder has a file of that name.
        and (name.partition(".")[0] == top or any(file.is_relative_to(one) for one in _folders))
    }
    if changed or anothers:
        ours = {name for name, file in loaded.items() if file == local[name].resolve()}
        below = {name for name in sys.modules if name.partition(".")[0] == top}
        for name in anothers | below | (ours if changed else set()):
            del sys.modules[name]


def _loaded_from(name: str) -> Path | None:
    file = getattr(sys.modules[name], "__file__", None)
    return Path(file).resolve() if file else None


# What a module is made of ---------------------------------------------------------------------


def _fingerprint(files: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(f"{file.name} {fingerprint(file, str(file))}\n".encode())
    return digest.hexdigest()


def _local_modules(module: str, folder: Path) -> dict[str, Path]:
    """The module and its file in a folder, then those of the folder that it needs, by name."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        for name in _with_packages(waiting.pop()):
            file = _file(name, folder)
            if file is not None and name not in found:
                found[name] = file
                package = name if file.name == "__init__.py" else name.rpartition(".")[0]
                waiting += _imports(file, package)
    if module not in found:
        return {}
    return {module: found.pop(module), **dict(sorted(found.items()))}


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

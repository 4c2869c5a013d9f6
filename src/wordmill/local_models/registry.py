"""The models on this machine as the database knows them: each is whole, or is not there.

A model has a row here and an entry of the same name in the catalog, by which people ask it.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import RowMapping, delete, insert, select, update

from wordmill.backends.base import CACHE_TOKENS
from wordmill.database import Database, now
from wordmill.database import local_models as table
from wordmill.errors import ConfigError, UnknownName
from wordmill.local_models.types import Earlier, Facts, LocalModel
from wordmill.models import Catalog, Model
from wordmill.settings import Settings

PROVIDER: Final = "local"
ADDRESS: Final = "local:"
"""What the catalog has as the address of a model that runs here, before its revision."""

PATHS: Final = frozenset({"disk", "history", "import", "loaded", "people", "tasks"})
"""What stands beside the models in the paths of the API."""

_PLAIN: Final = frozenset(
    one.name for one in fields(LocalModel) if one.name not in ("path", "facts", "earlier")
)


class Registry:
    """The rows. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._catalog = database, Catalog(database, settings)

    def names(self) -> list[str]:
        """All names, sorted."""
        with self._database.read() as connection:
            return sorted(connection.execute(select(table.c.name)).scalars())

    def all(self) -> list[LocalModel]:
        """All models, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).mappings().all()
        return [_model(row) for row in rows]

    def find(self, name: str) -> LocalModel:
        """One model. Raises UnknownName with the nearest ones."""
        row = self._row(name)
        if row is None:
            hint = "`wordmill models fetch OWNER/NAME` brings one from the hub."
            raise UnknownName("local model", name, self.names(), hint)
        return _model(row)

    def files(self, name: str) -> Mapping[str, Any]:
        """What was chosen of its repository when it was fetched."""
        row = self._row(name)
        return {} if row is None else cast(Mapping[str, Any], row["files"])

    def check_free(self, name: str) -> None:
        """Raise ConfigError where a name is taken, or is none that the API's paths can hold."""
        from wordmill.models import checked

        if "/" in name or name in PATHS:
            raise ConfigError(
                f"{name[:200]!r} is no name for a model of this machine: it has a slash, or stands "
                "for something else there. Choose another with --name."
            )
        checked({"name": name, "provider": "openai", "model": name})
        if name in self._catalog.names():
            raise ConfigError(
                f"There is a model {name!r} already: choose another name with --name, or remove "
                f"that one with `wordmill models remove {name}`."
            )

    def add(self, model: LocalModel, files: Mapping[str, Any] | None = None) -> LocalModel:
        """Put a model that is whole on the shelf and into the catalog. Raises ConfigError."""
        self.check_free(model.name)
        with self._database.begin() as connection:
            connection.execute(insert(table).values(**_values(model), files=dict(files or {})))
        try:
            self._catalog.add(entry(model))
        except BaseException:
            self._forget(model.name)
            raise
        return model

    def change(self, name: str, **values: Any) -> LocalModel:
        """Change fields; the model as it is then. Raises UnknownName."""
        before = self.find(name)
        changed = replace(before, **{"updated": now(), **values})
        with self._database.begin() as connection:
            known = table.c.name == name
            connection.execute(update(table).where(known).values(_values(changed)))
        old, new = self._catalog.get(name), entry(changed)
        if old.provider == PROVIDER and old.base_url.startswith(ADDRESS):
            told = replace(old, context=new.context, base_url=new.base_url)
            if told != old:
                self._catalog.add(told, replacing=True)
        return changed

    def remove(self, name: str) -> LocalModel:
        """Take a model off the shelf and out of the catalog. Raises UnknownName, ConfigError."""
        model = self.find(name)
        if name in self._catalog.names():
            self._catalog.remove(name)
        self._forget(name)
        return model

    def _forget(self, name: str) -> None:
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.name == name))

    def _row(self, name: str) -> RowMapping | None:
        if not name.isprintable():
            return None
        with self._database.read() as connection:
            query = select(table).where(table.c.name == name)
            return connection.execute(query).mappings().one_or_none()


def find(database: Database, settings: Settings, name: str) -> LocalModel:
    """A model on this machine, by its name in the catalog. Raises UnknownName."""
    return Registry(database, settings).find(name)


def entry(model: LocalModel) -> Model:
    """A model's entry in the catalog."""
    return Model(
        name=model.name,
        provider=PROVIDER,
        # Answers are remembered by it: another revision is another model.
        base_url=f"{ADDRESS}{model.revision[:12] or format(int(model.created.timestamp()), 'x')}",
        model=model.name,
        context=_context(model),
    )


def _context(model: LocalModel) -> int | None:
    """The tokens that its engine gives a conversation; None where no file says it."""
    if model.context:
        return model.context
    if model.facts.task != "chat":
        return model.facts.context or None
    return min(model.facts.context, CACHE_TOKENS) or None


def _values(model: LocalModel) -> dict[str, Any]:
    values = {name: getattr(model, name) for name in _PLAIN}
    earlier = [
        {"revision": one.revision, "path": str(one.path), "at": one.at.isoformat()}
        for one in model.earlier
    ]
    return {**values, "path": str(model.path), "facts": asdict(model.facts), "earlier": earlier}


def _model(row: RowMapping) -> LocalModel:
    values = {name: row[name] for name in _PLAIN}
    known = {one.name for one in fields(Facts)}
    facts = {name: value for name, value in row["facts"].items() if name in known}
    earlier = tuple(
        Earlier(one["revision"], Path(one["path"]), datetime.fromisoformat(one["at"]))
        for one in row["earlier"]
    )
    return LocalModel(**values, path=Path(row["path"]), facts=Facts(**facts), earlier=earlier)

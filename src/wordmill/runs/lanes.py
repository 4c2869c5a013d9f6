"""The models of a run: which are used, what the engine is told about them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wordmill.models import Catalog
from wordmill.providers.base import Model, Provider
from wordmill.providers.rehearsal import IDENTITY, RehearsalProvider
from wordmill.runs.budget import Budget
from wordmill.runs.meter import NO_LANE
from wordmill.settings import Settings
from wordmill.sharing import shared
from wordmill.types import Value


@dataclass(frozen=True, slots=True)
class Lanes:
    """The models that a run can reach, fallbacks included, each with its provider.

    named: those that the recipe names itself.
    """

    models: Mapping[str, Model]
    providers: Mapping[str, Provider]
    named: tuple[str, ...]

    @property
    def rehearsal(self) -> frozenset[str]:
        """Names of the models behind which nobody thinks."""
        return frozenset(name for name, one in self.providers.items() if one.rehearsal)

    @property
    def unpriced(self) -> list[str]:
        """Models that would be paid for, as far as is known, and have no price."""
        return [
            name
            for name, model in self.models.items()
            if not (model.price_in or model.price_out) and not self.providers[name].free
        ]

    def check_keys(self) -> None:
        """Raise KeyMissing for a key, or a variable of a header, that a model needs and has not."""
        for provider in self.providers.values():
            provider.credential()
            provider.headers()

    def config(
        self,
        settings: Settings,
        *,
        owner: str,
        records: Path | None,
        cache: Path | None,
        budget: Budget,
        concurrency: int | Literal["auto"] | None,
    ) -> str:
        """What the engine is told (see `_engine.pyi`). Raises KeyMissing.

        concurrency: for all lanes, whatever the catalog says; None leaves it to the catalog.
        """
        lanes: list[dict[str, Value]] = []
        for provider in self.providers.values():
            lane = provider.lane(owner)
            if concurrency is not None:
                lane["concurrency"] = None if concurrency == "auto" else concurrency
            lanes.append(lane)
        return json.dumps({
            "records": None if records is None else str(records),
            "cache": None if cache is None else str(cache),
            "owner": owner,
            "lanes": lanes or [NO_LANE],
            "in_doubt": settings.in_doubt,
            "shared": shared(settings, answers=cache is not None),
            "budget": {
                "requests": budget.requests, "tokens": budget.tokens, "money": budget.money,
            },
        })  # fmt: skip

    def at_once(
        self, settings: Settings, concurrency: int | Literal["auto"] | None
    ) -> dict[str, int | None]:
        """Requests that each lane sends at once; None for those that adapt."""
        if concurrency is not None:
            return dict.fromkeys(self.models, None if concurrency == "auto" else concurrency)
        return {
            name: model.concurrency or settings.concurrency for name, model in self.models.items()
        }


def open_lanes(
    catalog: Catalog, settings: Settings, names: Iterable[str], *, rehearse: bool = False
) -> Lanes:
    """The models of those names with their fallbacks.

    rehearse: the rehearsal model answers for every one of them, at their prices.
    Raises UnknownName, ConfigError for fallbacks that go in a circle.
    """
    named = tuple(names)
    models: dict[str, Model] = {}
    providers: dict[str, Provider] = {}
    for name in named:
        for model in catalog.chain(name):
            if model.name in models:
                continue
            if rehearse:
                model = replace(
                    model, provider="rehearsal", base_url=IDENTITY, key_env=None, headers={},
                    fallback=None, rpm=None, tpm=None,
                )  # fmt: skip
                providers[model.name] = RehearsalProvider(model, settings)
            else:
                providers[model.name] = catalog.provider(model.name)
            models[model.name] = model
    return Lanes(models, providers, named)

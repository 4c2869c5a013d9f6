"""The catalog, one's settings with each model and one's keys for them, over HTTP."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from wordmill.accounts import Person, catalog_of
from wordmill.channels.api.auth import Admins, Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Sent
from wordmill.channels.house import House
from wordmill.models import checked
from wordmill.providers.base import Model

router = APIRouter(prefix="/api")


class NewModel(Sent):
    """A model to be added; the other fields are those of `wordmill models add`."""

    model_config = ConfigDict(extra="allow")

    name: str
    key: str | None = None


class Mode(Sent):
    """A decoding mode."""

    mode: str


class Setting(Sent):
    """A value; null takes it back."""

    value: float | int | str | list[str] | None


@router.get("/models", tags=["Models"])
def models(caller: Reads, request: Request) -> list[Json]:
    """The catalog."""
    house = house_of(request)
    found = catalog_of(house.database, house.settings, caller.person.id).all()
    return [_shown(house, caller.person, one, source) for one, source in found]


@router.get("/models/{model}", tags=["Models"])
def model(model: str, caller: Reads, request: Request) -> Json:
    """One model of the catalog."""
    house = house_of(request)
    catalog = catalog_of(house.database, house.settings, caller.person.id)
    catalog.get(model)
    (found,) = [(one, source) for one, source in catalog.all() if one.name == model]
    return _shown(house, caller.person, *found)


@router.post("/models/{model}/test", tags=["Models"])
def try_model(model: str, caller: Talks, request: Request) -> Json:
    """Ask a model one small question, at one's own expense; what went wrong, in a sentence."""
    return asdict(house_of(request).try_model(caller.person, model))


@router.post("/models", status_code=201, tags=["Models"])
def add_model(new: NewModel, caller: Admins, request: Request) -> Json:
    """Add a model for everybody."""
    options = new.model_dump(exclude={"key"})
    made = house_of(request).add_model(caller.person, checked(options), key=new.key)
    return {"name": made.name}


@router.delete("/models/{model}", status_code=204, tags=["Models"])
def remove_model(model: str, caller: Admins, request: Request) -> None:
    """Remove a model for everybody."""
    house_of(request).remove_model(caller.person, model)


@router.delete("/private-models", status_code=204, tags=["Models"])
def remove_private_model(name: str, caller: Talks, request: Request) -> None:
    """Remove a private model of one's own: a server that a batch named (`model@address`)."""
    house_of(request).remove_private_model(caller.person, name)


@router.get("/models/{model}/settings", tags=["Models"])
def parameters(model: str, caller: Reads, request: Request) -> Json:
    """One's settings with a model, each with where its value comes from."""
    house = house_of(request)
    catalog_of(house.database, house.settings, caller.person.id).get(model)
    found = house.chat.parameters
    return {
        "mode": found.mode(caller.person, model),
        "modes": found.modes(),
        "parameters": [asdict(one) for one in found.view(caller.person, model)],
    }


@router.put("/models/{model}/mode", tags=["Models"])
def set_mode(model: str, new: Mode, caller: Talks, request: Request) -> Json:
    """Choose a decoding mode."""
    before = house_of(request).chat.parameters.set_mode(caller.person, model, new.mode)
    return {"before": before, "mode": new.mode}


@router.put("/models/{model}/settings/{name}", tags=["Models"])
def set_parameter(model: str, name: str, new: Setting, caller: Talks, request: Request) -> Json:
    """Set one value, or take it back."""
    before, now = house_of(request).chat.parameters.set(caller.person, model, name, new.value)
    return {"before": before, "value": now}


class ProviderKey(Sent):
    """A provider's key; it is never shown again. everyone: for all people; admins only."""

    key: str = Field(min_length=1, max_length=10_000)
    everyone: bool = False


@router.put("/models/{model}/key", status_code=204, tags=["Models"])
def set_key(model: str, new: ProviderKey, caller: Talks, request: Request) -> None:
    """One's own key for a model, or everybody's."""
    keys = house_of(request).accounts.provider_keys
    keys.set(caller.person, model, new.key, everyone=new.everyone)


@router.delete("/models/{model}/key", status_code=204, tags=["Models"])
def remove_key(model: str, caller: Talks, request: Request, everyone: bool = False) -> None:
    """Forget one's own key for a model, or everybody's."""
    keys = house_of(request).accounts.provider_keys
    keys.remove(caller.person, model, everyone=everyone)


def _shown(house: House, person: Person, model: Model, source: str) -> Json:
    """A model, without what its requests are signed with."""
    hidden = ("headers", "key_env")
    return {
        **{key: value for key, value in asdict(model).items() if key not in hidden},
        "source": source,
        "has_key": house.has_key(person, model.name),
    }

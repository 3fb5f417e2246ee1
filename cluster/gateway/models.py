"""``GET /v1/models`` and ``GET /v1/models/{id}``: from the settings, without asking an engine."""

from typing import Any

import orjson

from cluster.gateway.exchange import Exchange
from cluster.gateway.plan import unknown_model
from cluster.gateway.ports import Caller
from cluster.settings import Settings

_RELEASED = 1754352000
"""2025-08-05, when gpt-oss was released; an alias has no date of its own."""


class Models:
    """The models that a caller may use, as OpenAI lists them."""

    def __init__(self, settings: Settings) -> None:
        self._names = [*settings.models, *settings.aliases]

    def listing(self, caller: Caller) -> bytes:
        """Return the JSON list of models and aliases."""
        return orjson.dumps({"object": "list", "data": [_model(name) for name in self._visible(caller)]})

    def retrieve(self, exchange: Exchange, caller: Caller) -> bytes:
        """Return the JSON object of the model in the path. Raises `InvalidRequest` (404)."""
        name = str(exchange.scope["path"]).removeprefix("/v1/models/")
        if name not in self._visible(caller):
            raise unknown_model(name)
        return orjson.dumps(_model(name))

    def _visible(self, caller: Caller) -> list[str]:
        return [name for name in self._names if caller.models is None or name in caller.models]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _RELEASED, "owned_by": "openai"}

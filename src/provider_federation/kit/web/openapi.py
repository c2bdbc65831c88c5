"""The OpenAPI document as we publish it: every operation says what a refusal looks like."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from provider_federation.kit.web.parser import StrictParser

_FAILURE = {
    "title": "Failure",
    "description": "Every refusal: one sentence and a stable code. Some add what they are about, such as `field`.",
    "type": "object",
    "properties": {
        "ok": {"const": False, "type": "boolean"},
        "error": {"type": "string", "minLength": 1},
        "reason": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
    },
    "required": ["ok", "error", "reason"],
}
_RANGES = {"4XX": "The request is refused; nothing was changed.", "5XX": "It could not be done now."}


class DescribedApi(NinjaAPI):
    """A `NinjaAPI` that reads strictly and whose document declares refusals on every operation."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parser=StrictParser(), **options)

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """Ninja's document; each operation has `4XX` and `5XX` in place of a list that is never complete."""
        schema = super().get_openapi_schema(**options)
        schema.setdefault("components", {}).setdefault("schemas", {})["Failure"] = _FAILURE
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"] = _declared(operation["responses"])
        return schema


def _declared(responses: dict[Any, Any]) -> dict[str, Any]:
    kept = {str(status): answer for status, answer in responses.items() if int(status) < 400}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    return kept | {status: {"description": text, "content": content} for status, text in _RANGES.items()}

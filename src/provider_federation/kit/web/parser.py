"""How a request's body and query become values: one meaning, bounded, or a `Problem`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from ninja.parser import Parser

from provider_federation.kit.problem import Problem
from provider_federation.kit.strict_json import NotJson, read_object


class StrictParser(Parser):
    """For `NinjaAPI(parser=StrictParser())`: a body is one JSON object in UTF-8, sent as JSON."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Problems: 415 `content_type_not_allowed`, 400 `bad_json invalid_field`. A body without a type is taken as JSON."""
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise Problem(
                415, "content_type_not_allowed", "Send the body with Content-Type: application/json."
            )
        try:
            return read_object(request.body)
        except NotJson as error:
            code = "invalid_field" if error.well_formed else "bad_json"
            raise Problem(400, code, f"The body cannot be taken: {error}.") from None

    def parse_querydict(
        self, data: MultiValueDict[str, Any], list_fields: list[str], request: HttpRequest
    ) -> dict[str, Any]:
        """As ninja does it; a NUL, which no column holds, is a 400."""
        refuse_nul(data)
        return super().parse_querydict(data, list_fields, request)


def refuse_nul(data: MultiValueDict[str, Any]) -> None:
    """Problem 400 `invalid_field` for a name or value with a NUL in it."""
    for name, values in data.lists():
        if any("\0" in text for text in (name, *values)):
            raise Problem(
                400, "invalid_field", "A query parameter holds a NUL character.", field=name.replace("\0", "")
            )

"""Schemathesis over the portal's OpenAPI file: whatever fits it or breaks it, no server error and no other shape.

In process, with an admin's token, in a transaction that is rolled back: nothing that it makes survives.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from provider_federation.portal.api import api
from provider_federation.portal.operators import services as operators

SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/"))))
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method.upper()} {one.path}")
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda one: one.value)
def test_no_server_error(db: None, client: Client, operation: Any, mode: Any) -> None:
    _row, secret = operators.create_token(name="schemathesis", role="admin", actor="test")
    client.raise_request_exception = True

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url="http://testserver")
        body = sent.get("data") if sent.get("json") is None else json.dumps(sent["json"])
        content = (
            body.encode("utf-8", "replace")
            if isinstance(body, str)
            else body
            if isinstance(body, bytes)
            else b""
        )
        path = sent["url"].removeprefix("http://testserver")
        query = urlencode(sent.get("params") or {}, doseq=True, errors="replace")
        answer = client.generic(
            sent["method"],
            f"{path}?{query}" if query else path,
            content,
            content_type="application/json",
            headers={"Authorization": f"Bearer {secret}", **_sendable(sent.get("headers") or {})},
        )
        # 503 is a route that says why it cannot (here: no Stripe account is set up), not one that fell over.
        assert answer.status_code < 500 or answer.status_code == 503, answer.content
        if "json" in answer["Content-Type"]:
            assert answer.json()["ok"] is (answer.status_code < 300)

    with suppress(Unsatisfiable):  # nothing in this route's document can be broken
        check()


def _sendable(headers: dict[str, Any]) -> dict[str, str]:
    taken = {"authorization", "content-type", "content-length", "host"}
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str) and value.isascii() and value.isprintable() and name.lower() not in taken
    }

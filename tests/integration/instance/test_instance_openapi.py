"""Schemathesis over the instance's OpenAPI file: whatever fits it or breaks it, no server error and no other shape."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from provider_federation.instance.api import api

SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/"))))
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
# Where nothing is taken, nothing can be wrong.
CASES = [
    (one, mode)
    for one in OPERATIONS
    for mode in (POSITIVE, NEGATIVE)
    if mode is POSITIVE or one.query or one.body
]


@pytest.mark.parametrize(
    ("operation", "mode"), CASES, ids=[f"{one.method.upper()} {one.path} {mode.value}" for one, mode in CASES]
)
def test_no_server_error(server: Any, operation: Any, mode: Any) -> None:
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        request = httpx.Request(**_request(case, server.url))
        target = urlsplit(str(request.url))
        full = target.path + (f"?{target.query}" if target.query else "")
        body = request.read()
        request.headers.update(server.headers(request.method, full, body))
        answer = server.client.send(request)
        assert answer.status_code < 500, answer.text
        assert answer.json()["ok"] is (answer.status_code == 200)

    check()


def _request(case: Any, url: str) -> dict[str, Any]:
    arguments = case.as_transport_kwargs(base_url=url)
    body = arguments.get("data") if arguments.get("json") is None else json.dumps(arguments["json"])
    content = body.encode() if isinstance(body, str) else body
    headers = {name: value for name, value in arguments.get("headers", {}).items() if _sendable(value)}
    return {
        "method": arguments["method"],
        "url": arguments["url"],
        "params": arguments.get("params"),
        "headers": headers,
        "content": content if isinstance(content, bytes) else b"",
    }


def _sendable(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()

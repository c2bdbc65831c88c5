"""Schemathesis over both OpenAPI files against the running services: no server error, nothing that the files don't declare.

What it makes is the same on every run. An instance's requests are signed over the target exactly as it goes out.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.attacks.bad_input_cases import FOLDER
from tests.attacks.bad_input_samples import SAMPLES
from tests.attacks.bad_input_world import Service, stripe_signature

EXAMPLES = 25
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# An answer that the services give on purpose when another party is away or says no.
ELSEWHERE = {"instance_unavailable", "instance_bad_answer", "stripe_refused", "dns_failed"}

SCHEMAS = {
    side: schemathesis.openapi.from_dict(json.loads((FOLDER / f"{side}.json").read_text()))
    for side in SAMPLES
}
ROUTES = [
    pytest.param(
        side,
        operation,
        mode,
        id=f"{side} {operation.method.upper()} {operation.path} {mode.value}",
    )
    for side, schema in SCHEMAS.items()
    for operation in (result.ok() for result in schema.get_all_operations())
    for mode in schemathesis.GenerationMode
]


class Signing(HTTPAdapter):
    """The last hand on a request: its proof, over what is about to be sent."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        url = urlsplit(str(request.url))
        target = url.path + (f"?{url.query}" if url.query else "")
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        if "/webhooks/" in target:
            request.headers["Stripe-Signature"] = stripe_signature(raw)
        else:
            request.headers.update(self.service.credentials("full", str(request.method), target))
        self.service.wire.sent += 1
        return super().send(request, *args, **more)


@pytest.mark.parametrize(("service", "operation", "mode"), ROUTES, indirect=["service"])
def test_no_server_error_and_nothing_undeclared(service: Service, operation: Any, mode: Any) -> None:
    with requests.Session() as session:
        session.mount("http://", Signing(service))

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.headers.pop("Authorization", None)
            answer = case.call(base_url=f"http://127.0.0.1:{service.port}", session=session)
            if answer.status_code >= 500:
                assert answer.json()["reason"] in ELSEWHERE, answer.text
                return
            case.validate_response(answer, checks=CHECKS)
            if "json" in answer.headers["content-type"][0]:
                assert answer.json()["ok"] is (answer.status_code < 300)

        with suppress(Unsatisfiable):  # nothing in this route's document can be broken
            check()

"""Every route of both OpenAPI files with one thing wrong: a 4xx with a sentence and a code, and not a row changed.

A new route fails here until it has a valid request in bad_input_samples.py; the rest follows from its document.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.bad_input_cases import CATEGORIES, Bad, Operation, operations, taken_methods
from tests.attacks.bad_input_samples import SAMPLES
from tests.attacks.bad_input_wire import Answer
from tests.attacks.bad_input_world import Service

SERVICES = {"portal": "portal", "instance": "instance", "instance-postgres": "instance"}
REASONS = set(
    re.findall(
        r"^\| `([a-z0-9_]+)` \|",
        (Path(__file__).resolve().parents[2] / "docs" / "reasons.md").read_text(),
        re.MULTILINE,
    )
)
_LEAKS = (b"Traceback", b'File "', b"psycopg", b"django", b"site-packages", b"SELECT ", b"object at 0x")

ROUTES = [
    pytest.param(name, operation, id=f"{name} {operation.name}")
    for name, side in SERVICES.items()
    for operation in operations(side)
]
every_route = pytest.mark.parametrize(("service", "operation"), ROUTES, indirect=["service"])


def check_refusal(answer: Answer, what: str, *, method: str = "POST") -> None:
    """The contract's shape of a refusal."""
    assert 400 <= answer.status < 500, f"{what}: {answer}"
    assert re.fullmatch(r"[A-Za-z0-9_-]{8,64}", answer.headers.get("x-request-id", "")), f"{what}: {answer}"
    assert not any(leak in answer.body for leak in _LEAKS), f"{what}: {answer}"
    if method == "HEAD":
        assert answer.body == b"", f"{what}: {answer}"
        return
    body = answer.json
    assert isinstance(body, dict), what
    assert body["ok"] is False, what
    assert body["reason"] in REASONS, f"{what}: {body}"
    sentence = body["error"]
    assert isinstance(sentence, str), what
    assert 10 <= len(sentence) <= 400, f"{what}: {len(sentence)} {sentence[:500]}"
    assert sentence.isprintable(), f"{what}: {sentence!r}"
    assert sentence.endswith("."), f"{what}: {sentence!r}"


def send(service: Service, operation: Operation, bad: Bad) -> Answer:
    who: Any = "nobody" if operation.sample.is_webhook else "full"
    return service.send(bad.method or operation.method, bad.target, bad.body, bad.headers, who)


@pytest.mark.parametrize("side", SAMPLES)
def test_every_route_has_a_sample_and_no_sample_is_left_over(side: str) -> None:
    assert set(SAMPLES[side]) == {operation.name for operation in operations(side)}


@every_route
def test_the_sample_is_a_good_request(service: Service, operation: Operation) -> None:
    sample = operation.sample
    body = sample.raw(service)
    answer = send(
        service, operation, Bad("good", sample.target(service, operation.path), body, sample.headers(body))
    )
    assert answer.status in sample.answers, answer
    assert answer.headers["x-request-id"]
    if "json" in answer.headers["content-type"]:
        assert answer.json["ok"] is (answer.status < 300)


@every_route
@pytest.mark.parametrize("category", CATEGORIES)
def test_refused_and_nothing_written(service: Service, operation: Operation, category: str) -> None:
    before = service.state_before()
    for bad in CATEGORIES[category](operation, service):
        what = f"{operation.name}, {category}, {bad.label}"
        answer = send(service, operation, bad)
        assert answer.status < 500, f"{what}: {answer}"
        if bad.or_answered and answer.status < 400:
            before = (
                service.state()
            )  # it was a good request after all (an export, say, is in the audit trail)
            continue
        check_refusal(answer, what, method=bad.method)
        if bad.method not in {"", "HEAD"} and answer.status == 405:
            allowed = set(answer.headers["allow"].replace(" ", "").split(","))
            assert taken_methods(operation) <= allowed, what
            assert bad.method not in allowed, what
    assert service.state() == before


@every_route
def test_who_may_not_is_refused(service: Service, operation: Operation) -> None:
    sample = operation.sample
    target, body = sample.target(service, operation.path), sample.raw(service)
    before = service.state_before()
    if not sample.is_webhook:
        anonymous = service.send(operation.method, target, body, sample.headers(body), "nobody")
        assert anonymous.status == sample.anonymous, anonymous
        if anonymous.status >= 400:
            check_refusal(anonymous, "nobody")
    if sample.reader is not None:
        reader = service.send(operation.method, target, body, sample.headers(body), "reader")
        assert reader.status == sample.reader, reader
        check_refusal(reader, "a reader")
    for name, value in _false_proofs(service, operation).items():
        answer = service.wire.send(operation.method, target, {**sample.headers(body), **value}, body)
        check_refusal(answer, f"{operation.name}, {name}")
        assert answer.status in {400, 401, sample.anonymous}, f"{name}: {answer}"
    assert service.state() == before


def _false_proofs(service: Service, operation: Operation) -> dict[str, dict[str, str]]:
    if operation.sample.is_webhook:
        return {
            "no signature": {"Stripe-Signature": ""}, "nonsense": {"Stripe-Signature": "nonsense"},
            "an old one": {"Stripe-Signature": "t=1,v1=" + "0" * 64}, "a huge time": {"Stripe-Signature": f"t={'9' * 400},v1=00"},
            "not ASCII": {"Stripe-Signature": "t=1,v1=\xe9\xff"},
        }  # fmt: skip
    if operation.side == "portal":
        return {
            name: {"Authorization": value}
            for name, value in {
                "an unknown token": "Bearer pft_nobody", "nothing": "Bearer ", "basic": "Basic YTpi", "empty": "", "not ASCII": "Bearer \xff\xfe",
                "NUL": "Bearer a%00b", "long": "Bearer " + "A" * 8_000,
            }.items()
        }  # fmt: skip
    target = operation.sample.target(service, operation.path)
    good = service.credentials("full", operation.method, target)
    return {
        "another signature": {**good, "X-Provider-Signature": "sha256:" + "0" * 64},
        "an unknown key": {**good, "X-Provider-KeyId": "nobody"},
        "no time": {name: value for name, value in good.items() if "Timestamp" not in name},
        "another address": service.credentials("full", operation.method, "/api/other"),
    }


_THINGS = {
    "portal": {"acme", "run", "subscription", "usage_invoice"},
    "instance": {"invoice", "lead", "customer"},
}


@every_route
def test_another_clients_things(service: Service, operation: Operation) -> None:
    """Ids that exist, of another kind or client, are as good as unknown; another org's name is refused outright."""
    sample = operation.sample
    body = sample.raw(service)
    before = service.state_before()
    for one in operation.parameters("path"):
        own = sample.path[one["name"]][1:]
        for fact in _THINGS[operation.side] - {own, "acme" if own == "other" else own}:
            answer = service.send(
                operation.method,
                sample.target(service, operation.path, **{one["name"]: f"${fact}"}),
                body,
                sample.headers(body),
            )
            check_refusal(answer, f"{operation.name} with a {fact}")
            assert answer.status == 404, answer
    if operation.side == "instance" and not sample.is_webhook:
        target = sample.target(service, operation.path)
        answer = service.send(
            operation.method, target, body, {**sample.headers(body), "X-Provider-Org": "org_other"}
        )
        closed = sample.anonymous == 403  # enrolment takes a code's key, and no other gets as far as the org
        assert (answer.status, answer.json["reason"]) == (
            403,
            "enrolment_closed" if closed else "org_mismatch",
        )
    assert service.state() == before


@pytest.mark.parametrize("service", ["instance", "instance-postgres"], indirect=True)
def test_a_line_with_another_customers_name_or_amount(service: Service) -> None:
    lines = service.ask("GET", "/api/billing/preview?range=all")["lines"]
    chosen = lines[0]
    other = next(line["customerId"] for line in lines if line["customerId"] != chosen["customerId"])
    before = service.state_before()
    for change in ({"customerId": other}, {"amountCents": chosen["amountCents"] + 1}, {"unitPriceCents": 1}):
        body = json.dumps({"lines": [{"leadId": chosen["leadId"], **change}]}).encode()
        answer = service.send(
            "POST", "/api/billing/invoices.create", body, {"Content-Type": "application/json"}
        )
        check_refusal(answer, str(change))
        assert (answer.status, answer.json["reason"]) == (409, "line_changed")
    assert service.state() == before

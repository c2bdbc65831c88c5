"""The routes of the contract, over HTTP, signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Feed, Invoice
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.leads.services import add_customer
from provider_federation.instance.people.services import add_person
from provider_federation.instance.usage.services import record_ai_usage
from provider_federation.kit import clock
from provider_federation.kit.hash_chain import digest
from provider_federation.money import Period

MakeLead = Callable[..., Lead]
PASSWORD = "a long enough passphrase"

READ = [
    "/api/billing/preview",
    "/api/billing/list",
    "/api/billing/get?id=1",
    "/api/provider/usage?period=2026-02",
    "/api/federation/changes",
    "/api/federation/policy",
]
WRITE = [
    ("/api/billing/invoices.create", {}),
    ("/api/integrations/stripe/create-hosted-invoice", {"id": "1"}),
]


def refused(answer: Any, status: int, reason: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["reason"]) == (status, reason), answer.text
    assert body["ok"] is False
    assert body["error"]


def test_status_tells_more_to_a_signed_caller(server: Any) -> None:
    assert server.anonymous("GET", "/api/system/federation.status").json() == {
        "ok": True,
        "enabled": True,
        "mode": "sha256",
    }
    body = server.get("/api/system/federation.status").json()
    assert {"instance", "org", "version", "capabilities", "serverTime", "schemes"} <= set(body)
    assert (body["instance"], body["org"]) == ("acme", "org_acme")
    assert [scheme["name"] for scheme in body["schemes"] if scheme["accepted"]] == ["sha256"]
    assert abs(datetime.fromisoformat(body["serverTime"]) - clock.now()) < timedelta(seconds=30)


@pytest.mark.parametrize("target", READ)
def test_reading_needs_somebody_and_the_read_scope_is_enough(server: Any, target: str) -> None:
    refused(server.anonymous("GET", target), 401, "not_signed_in")
    assert server.get(target, key="reader").status_code in {200, 404}


@pytest.mark.parametrize(("target", "body"), WRITE)
def test_writing_needs_the_provider_scope(server: Any, target: str, body: dict[str, str]) -> None:
    refused(server.anonymous("POST", target, json=body), 401, "not_signed_in")
    refused(server.post(target, body, key="reader"), 403, "scope_not_allowed")


def test_another_org_is_refused(server: Any) -> None:
    refused(server.get("/api/billing/list", org="org_other"), 403, "org_mismatch")
    assert server.get("/api/billing/list", org="org_acme").status_code == 200


def test_preview_draft_list_get(server: Any, make_lead: MakeLead) -> None:
    lead = make_lead(price_cents=12_345)
    make_lead(price_cents=55)
    preview = server.get("/api/billing/preview?range=d7").json()
    assert (preview["ok"], preview["count"], preview["totalCents"], preview["currency"]) == (
        True,
        2,
        12_400,
        "usd",
    )
    assert set(preview["window"]) == {"label", "fromISO", "toISO"}
    assert preview["window"]["toISO"].endswith("T00:00:00.000Z")
    line = next(line for line in preview["lines"] if line["leadId"] == str(lead.pk))
    assert line["leadPublicId"] == lead.public_id
    assert (line["unitPriceCents"], line["amountCents"], line["customerId"]) == (
        12_345,
        12_345,
        str(lead.customer_id),
    )
    made = server.post("/api/billing/invoices.create", {"range": "d7"}).json()
    assert (made["ok"], made["reused"], made["counts"], made["message"]) == (
        True,
        False,
        {"leads": 2, "lines": 2},
        None,
    )
    assert made["totals"] == {"subtotalCents": 12_400, "taxCents": 0, "totalCents": 12_400}
    assert made["invoice"] == made["invoices"][0]
    again = server.post("/api/billing/invoices.create?range=d7").json()
    assert (again["reused"], again["invoices"]) == (True, made["invoices"])
    listed = server.get("/api/billing/list").json()
    assert (listed["items"], listed["nextCursor"]) == (made["invoices"], None)
    assert {
        "id",
        "number",
        "customer",
        "periodFrom",
        "periodTo",
        "status",
        "subtotalCents",
        "taxCents",
        "totalCents",
        "amountPaidCents",
        "currency",
        "createdAt",
        "updatedAt",
        "sentAt",
        "paidAt",
        "stripeInvoiceId",
        "hostedInvoiceUrl",
    } <= set(listed["items"][0])
    invoice = server.get(f"/api/billing/get?id={made['invoice']['id']}").json()["invoice"]
    assert {line["leadPublicId"] for line in invoice["lines"]} == {
        one.public_id for one in Lead.objects.all()
    }
    nothing = server.post("/api/billing/invoices.create", {"start": "2020-01-01", "end": "2020-01-02"}).json()
    assert (nothing["invoice"], nothing["invoices"], nothing["reused"]) == (None, [], False)
    assert nothing["message"]


def test_lines_of_a_preview_can_be_sent_back_as_they_are(server: Any, make_lead: MakeLead) -> None:
    make_lead(), make_lead()
    lines = server.get("/api/billing/preview").json()["lines"]
    known = {"leadId", "leadPublicId", "when", "unitPriceCents", "amountCents", "customerId"}
    chosen = [{name: value for name, value in lines[0].items() if name in known}]
    made = server.post("/api/billing/invoices.create", {"lines": chosen}).json()
    assert made["counts"] == {"leads": 1, "lines": 1}
    refused(
        server.post(
            "/api/billing/invoices.create", {"lines": [{"leadId": lines[1]["leadId"], "amountCents": 1}]}
        ),
        409,
        "line_changed",
    )
    refused(
        server.post("/api/billing/invoices.create", {"lines": chosen, "range": "d7"}), 400, "invalid_field"
    )


def test_windows_swap_and_refuse(server: Any) -> None:
    there = server.get("/api/billing/preview?start=2026-01-31&end=2026-01-01").json()["window"]
    assert (there["fromISO"], there["toISO"]) == ("2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z")
    for query in (
        "start=2026-02-30&end=2026-03-01",
        "start=yesterday&end=2026-03-01",
        "start=2026-03-01",
        "start=2026-W01-1&end=2026-03-01",
        "range=d7&start=2026-01-01&end=2026-01-02",
        "start=9999-12-31&end=9999-12-31",
        "start=0001-01-01&end=0001-01-01",
        "start=&end=",
    ):
        refused(server.get(f"/api/billing/preview?{query}"), 400, "bad_date")
    refused(server.get("/api/billing/preview?range=d8"), 400, "invalid_field")


def test_the_list_pages_and_filters(server: Any, make_lead: MakeLead) -> None:
    for number in range(5):
        make_lead(to=add_customer(f"C{number}", f"c{number}@x.example"))
    services.draft_invoices(Period(clock.now() - timedelta(days=9), clock.now()))
    first = Invoice.objects.order_by("created_at").first()
    assert first is not None
    Invoice.objects.filter(pk=first.pk).update(status="paid", updated_at=clock.now() + timedelta(days=1))
    seen: list[str] = []
    cursor = ""
    while True:
        page = server.get(f"/api/billing/list?limit=2{cursor}").json()
        seen += [item["id"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == [
        str(pk) for pk in Invoice.objects.order_by("-created_at", "-id").values_list("pk", flat=True)
    ]
    assert [item["id"] for item in server.get("/api/billing/list?status=paid").json()["items"]] == [
        str(first.pk)
    ]
    since = (clock.now() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert [item["id"] for item in server.get(f"/api/billing/list?updatedSince={since}").json()["items"]] == [
        str(first.pk)
    ]
    refused(server.get("/api/billing/list?updatedSince=2026-01-01"), 400, "invalid_field")
    for cursor in (
        "x",
        "W10",
        "WzEsMl0",
        "WyJ4IiwxXQ",
        "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiw5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OV0",
    ):
        refused(server.get(f"/api/billing/list?cursor={cursor}"), 400, "bad_cursor")


def test_the_feed_tells_everything_in_order_and_refuses_other_histories(
    server: Any, make_lead: MakeLead
) -> None:
    empty = server.get("/api/federation/changes").json()
    assert (empty["items"], empty["hasMore"]) == ([], False)
    assert empty["nextCursor"]
    for number in range(3):
        make_lead(to=add_customer(f"C{number}", f"c{number}@x.example"))
    made = services.draft_invoices(Period(clock.now() - timedelta(days=9), clock.now())).invoices
    services.void_draft(made[0].pk)
    first = server.get(f"/api/federation/changes?limit=3&cursor={empty['nextCursor']}").json()
    second = server.get(f"/api/federation/changes?limit=3&cursor={first['nextCursor']}").json()
    assert (first["hasMore"], second["hasMore"]) == (True, False)
    items = first["items"] + second["items"]
    assert [item["seq"] for item in items] == [1, 2, 3, 4]
    assert [item["type"] for item in items] == ["invoice.created"] * 3 + ["invoice.updated"]
    assert items[3]["invoice"]["status"] == "void"
    last = server.get(f"/api/federation/changes?cursor={second['nextCursor']}").json()
    assert (last["items"], last["nextCursor"], last["epoch"]) == ([], second["nextCursor"], empty["epoch"])
    Feed.objects.update(epoch="another")
    refused(server.get(f"/api/federation/changes?cursor={second['nextCursor']}"), 409, "cursor_unknown")


def test_a_cursor_of_a_lost_future_is_refused_after_a_restore(server: Any, make_lead: MakeLead) -> None:
    make_lead()
    services.draft_invoices(Period(clock.now() - timedelta(days=9), clock.now()))
    cursor = server.get("/api/federation/changes").json()["nextCursor"]
    Invoice.objects.get().changes.all().delete()  # as after restoring a backup from before
    Feed.objects.update(last_seq=0)
    refused(server.get(f"/api/federation/changes?cursor={cursor}"), 409, "cursor_unknown")
    services.void_draft(Invoice.objects.get().pk)  # a new change takes the number that the cursor knows
    refused(server.get(f"/api/federation/changes?cursor={cursor}"), 409, "cursor_unknown")


def test_usage(server: Any, make_lead: MakeLead) -> None:
    inside = [make_lead(at=datetime(2026, 2, day, 5, 6, 7, 123_456, tzinfo=UTC)) for day in (1, 14, 28)]
    make_lead(at=datetime(2026, 3, 1, tzinfo=UTC))  # came in during February, converted in March
    make_lead(at=datetime(2026, 2, 3, tzinfo=UTC), source="manual")
    services.draft_invoices(
        Period(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
    )  # billed or not: it converted
    for cost in ("12.345678", "0.000000000001", "0.1", "0.2"):
        record_ai_usage("draft", cost=Decimal(cost), calls=2, at=datetime(2026, 2, 9, tzinfo=UTC))
    record_ai_usage("draft", cost=Decimal(7), at=datetime(2026, 3, 1, tzinfo=UTC))
    add_person("v@x.example", PASSWORD)
    body = server.get("/api/provider/usage?period=2026-02&limit=2", key="reader").json()
    assert body["clientOrgId"] == "org_acme"
    assert body["period"] == {
        "label": "2026-02",
        "start": "2026-02-01T00:00:00.000Z",
        "end": "2026-03-01T00:00:00.000Z",
        "closed": True,
    }
    assert body["ai"] == {"cost": "12.645678000001", "currency": "usd", "calls": 8, "capCents": 5_000}
    assert body["limits"] == {
        "leads": {"used": 4, "limit": 100},
        "users": {"used": 1, "limit": 3},
        "aiCredits": {"used": 8, "limit": 1_000},
    }
    assert body["leads"]["count"] == 3
    more = server.get(
        f"/api/provider/usage?period=2026-02&limit=2&cursor={body['leads']['nextCursor']}"
    ).json()
    items = body["leads"]["items"] + more["leads"]["items"]
    assert more["leads"]["nextCursor"] is None
    assert [item["leadId"] for item in items] == [str(lead.pk) for lead in reversed(inside)]
    last = items[0]
    assert last["convertedAt"] == "2026-02-28T05:06:07.123Z"
    assert last["evidence"] == digest(
        {
            "leadId": last["leadId"],
            "leadPublicId": last["leadPublicId"],
            "convertedAt": last["convertedAt"],
            "source": "system",
        }
    )
    this_month = f"{clock.now():%Y-%m}"
    assert server.get(f"/api/provider/usage?period={this_month}").json()["period"]["closed"] is False
    assert server.get("/api/provider/usage?period=2020-01").json()["ai"]["cost"] == "0"
    for period, reason in [
        ("2026-13", "bad_date"),
        ("0000-01", "bad_date"),
        ("2026-2", "invalid_field"),
        ("x", "invalid_field"),
        ("%D9%A2%D9%A0%D9%A2%D9%A6-02", "invalid_field"),
        ("2026-02%0A", "invalid_field"),
    ]:
        refused(server.get(f"/api/provider/usage?period={period}"), 400, reason)
    refused(server.get("/api/provider/usage"), 400, "invalid_field")


BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("not json", b"{", 400, "bad_json"),
    ("not utf-8", b'{"a": "\xff"}', 400, "bad_json"),
    ("too deep", b"[" * 100_000, 400, "bad_json"),
    ("a huge number", b'{"id": ' + b"9" * 6_000 + b"}", 400, "invalid_field"),
    ("a list", b"[1]", 400, "invalid_field"),
    ("a string", b'"x"', 400, "invalid_field"),
    ("null", b"null", 400, "invalid_field"),
    ("unknown field", b'{"id": "1", "amount": 5}', 400, "unknown_field"),
]


# To a draft, no body means the default window.
BAD_WRITES = [
    (target, *case)
    for target, _ in WRITE
    for case in BAD_BODIES
    if (case[0], target) != ("null", "/api/billing/invoices.create")
]


@pytest.mark.parametrize(
    ("target", "what", "raw", "status", "reason"),
    BAD_WRITES,
    ids=[f"{case[1]} to {case[0]}" for case in BAD_WRITES],
)
def test_bad_bodies(server: Any, target: str, what: str, raw: bytes, status: int, reason: str) -> None:
    refused(server.call("POST", target, raw=raw), status, reason)


@pytest.mark.parametrize(
    ("body", "reason", "status"),
    [
        ({"range": 7}, "invalid_field", 400),
        ({"range": "d8"}, "invalid_field", 400),
        ({"start": 20260101, "end": "2026-01-02"}, "invalid_field", 400),
        ({"start": "2026-01-01"}, "bad_date", 400),
        ({"start": "2026-01-01\u0000", "end": "2026-01-02"}, "bad_date", 400),
        ({"lines": []}, "invalid_field", 400),
        ({"lines": [{}]}, "invalid_field", 400),
        ({"lines": [{"leadId": 5}]}, "invalid_field", 400),
        ({"lines": [{"leadId": "5", "price": 1}]}, "unknown_field", 400),
        ({"lines": [{"leadId": "5", "amountCents": "1"}]}, "invalid_field", 400),
        ({"lines": [{"leadId": "5", "amountCents": 1.5}]}, "invalid_field", 400),
        ({"lines": [{"leadId": "5", "amountCents": 10**30}]}, "invalid_field", 400),
        ({"lines": [{"leadId": "x"}]}, "not_found", 404),
        ({"lines": [{"leadId": "99999999999999999999"}]}, "not_found", 404),
        ({"lines": [{"leadId": "\u0665"}]}, "not_found", 404),
        ({"lines": [{"leadId": "5"}] * 1_001}, "invalid_field", 400),
        ({"lines": [{"leadId": "5", "customerId": "\ud800"}]}, "bad_json", 400),
        ({"lines": [{"lead_id": "5"}, {"leadId": "5"}]}, None, 400),
    ],
)
def test_bad_fields_of_a_draft(server: Any, body: dict[str, Any], reason: str | None, status: int) -> None:
    answer = server.post("/api/billing/invoices.create", body)
    assert answer.status_code in {status, 404}
    assert answer.json()["ok"] is False
    assert Invoice.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 400, "invalid_field"),
        ({"id": 5}, 400, "invalid_field"),
        ({"id": ""}, 400, "invalid_field"),
        ({"id": "nope"}, 404, "not_found"),
        ({"id": "12345"}, 404, "not_found"),
        ({"id": "9" * 30}, 404, "not_found"),
        ({"id": "-1"}, 404, "not_found"),
        ({"id": ["1"]}, 400, "invalid_field"),
    ],
)
def test_bad_fields_of_a_send(server: Any, body: dict[str, Any], status: int, reason: str) -> None:
    refused(server.post("/api/integrations/stripe/create-hosted-invoice", body), status, reason)


@pytest.mark.parametrize("target", [*READ, "/api/system/federation.status"])
def test_queries_are_strict(server: Any, target: str) -> None:
    joint = "&" if "?" in target else "?"
    refused(server.get(f"{target}{joint}statuss=paid"), 400, "unknown_field")
    if "?" in target:
        refused(server.get(f"{target}&{target.partition('?')[2]}"), 400, "repeated_field")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1e2",
        "limit=",
        "limit=%D9%A5%D9%A5",
        "status=lost",
        "status=",
        "cursor=",
        "cursor=" + "x" * 600,
        "limit=" + "9" * 5_000,
    ],
)
def test_bad_list_queries(server: Any, query: str) -> None:
    answer = server.get(f"/api/billing/list?{query}")
    assert answer.status_code in {400, 414}, answer.text
    assert answer.json()["ok"] is False


@pytest.mark.parametrize(
    "value", ["", "x", "0", "-1", "1.0", "9" * 19, "9" * 40, "%00", "%D9%A5", "1%20", "None"]
)
def test_unknown_invoices(server: Any, value: str) -> None:
    answer = server.get(f"/api/billing/get?id={value}")
    assert answer.status_code in {400, 404}, answer.text
    assert answer.json()["ok"] is False


@pytest.mark.parametrize(
    "target",
    [*READ, *(target for target, _ in WRITE), "/api/system/federation.status", "/api/webhooks/stripe"],
)
def test_wrong_methods(server: Any, target: str) -> None:
    path = target.partition("?")[0]
    right = "GET" if target in READ or "status" in target else "POST"
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - {right}:
        answer = server.anonymous(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == right
        assert server.call(method, path).status_code == 405
    assert server.anonymous("HEAD", path).status_code == 405


@pytest.mark.parametrize(
    "path",
    ["/api/", "/api/nope", "/api/billing", "/api/billing/list/", "/api//billing/list", "/api/openapi.json/x"],
)
def test_unknown_addresses_answer_json(server: Any, path: str) -> None:
    refused(server.anonymous("GET", path), 404, "not_found")


@pytest.mark.parametrize("target", [target for target, _ in WRITE] + ["/api/webhooks/stripe"])
def test_a_body_that_is_too_large(server: Any, target: str) -> None:
    large = b'{"id": "' + b"x" * 1_100_000 + b'"}'
    refused(server.call("POST", target, raw=large), 413, "body_too_large")
    refused(server.anonymous("POST", target, content=large), 413, "body_too_large")
    refused(
        server.anonymous("POST", target, content=iter([large[:700_000], large[700_000:]])),
        413,
        "body_too_large",
    )


def test_a_bad_signature_never_falls_back_to_a_session(server: Any) -> None:
    headers = {**server.headers("GET", "/api/billing/list", b""), "Cookie": "instance-acme=whatever"}
    headers["X-Provider-Signature"] = "sha256:" + "0" * 64
    refused(server.anonymous("GET", "/api/billing/list", headers=headers), 401, "bad_signature")


def test_a_host_that_is_not_ours(server: Any) -> None:
    refused(
        server.anonymous("GET", "/api/billing/list", headers={"Host": "evil.example"}), 400, "bad_request"
    )


def test_every_answer_carries_the_security_headers(server: Any) -> None:
    for path in ("/api/billing/list", "/api/nope", "/health/live", "/nope"):
        headers = server.anonymous("GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "same-origin"
        assert "no-store" in headers["Cache-Control"]
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["X-Request-Id"]


def test_health(server: Any) -> None:
    assert server.anonymous("GET", "/health/live").json() == {"ok": True, "status": "live"}
    assert server.anonymous("GET", "/health/ready").json() == {"ok": True, "status": "ready"}


def test_the_openapi_file_describes_every_route(server: Any) -> None:
    described = server.anonymous("GET", "/api/openapi.json").json()
    assert set(described["paths"]) == {target.partition("?")[0] for target in READ} | {
        target for target, _ in WRITE
    } | {
        "/api/system/federation.status",
        "/api/webhooks/stripe",
        "/api/federation/enrol",
        "/api/federation/keys",
        "/api/federation/entitlements",
        "/api/federation/disputes",
        "/api/federation/disputes/{dispute_id}",
    }
    assert json.dumps(described)

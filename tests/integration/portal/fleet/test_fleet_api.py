"""The fleet's routes: who may, what they answer, and what bad input gets."""

from __future__ import annotations

import csv
import io
import json
import uuid

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.fleet import sync
from provider_federation.portal.fleet.execution import sync_many, work_on_calls
from provider_federation.portal.fleet.models import FleetRun
from provider_federation.portal.operators import services as operators

NOBODY = uuid.UUID(int=7)  # an id that nothing has; the same in every process of the test run


class Caller:
    """A program with a token of one role."""

    def __init__(self, client, role):
        _row, secret = operators.create_token(name=f"{role} program", role=role, actor="test")
        self.client, self.headers = client, {"Authorization": f"Bearer {secret}"}

    def get(self, path, **query):
        return self.client.get(path, query, headers=self.headers)

    def post(self, path, body=None, **headers):
        return self.client.post(
            path, json.dumps(body or {}), content_type="application/json", headers=self.headers | headers
        )


@pytest.fixture
def billing(client, db):
    return Caller(client, "billing")


@pytest.fixture
def support(client, db):
    return Caller(client, "support")


def refused(response, status, code):
    body = response.json()
    assert (response.status_code, body["ok"], body["reason"]) == (status, False, code), body
    assert body["error"]
    return body


def test_a_run_from_start_to_end(billing, fleet):
    two = fleet("ada", "bob")
    two[1][0].stop()
    body = {
        "action": "draft",
        "instanceIds": [str(instance.pk) for _, instance in two],
        "params": {"range": "d30"},
    }
    started = billing.post("/api/provider/fleet", body, **{"Idempotency-Key": "k1"})
    assert started.status_code == 202, started.content
    run = started.json()["run"]
    assert (run["status"], run["progress"]["total"], run["requestedBy"]) == (
        "queued",
        2,
        "token:billing program",
    )
    assert (
        billing.post("/api/provider/fleet", body, **{"Idempotency-Key": "k1"}).json()["run"]["id"]
        == run["id"]
    )
    for job in ProcrastinateJob.objects.filter(task_name="fleet.run_shard"):
        work_on_calls(uuid.UUID(run["id"]), job.args["call_ids"])
    done = billing.get(f"/api/provider/fleet/{run['id']}").json()
    assert (done["run"]["status"], done["run"]["progress"]["ok"], done["run"]["progress"]["failed"]) == (
        "done",
        1,
        1,
    )
    assert {call["instance"]: call["reason"] for call in done["calls"]} == {
        "ada": "ok",
        "bob": "connect_failed",
    }
    failed = billing.get(f"/api/provider/fleet/{run['id']}", status="failed").json()["calls"]
    assert [call["instance"] for call in failed] == ["bob"]
    again = billing.post(f"/api/provider/fleet/{run['id']}/retry")
    assert (again.status_code, again.json()["run"]["progress"]["waiting"]) == (202, 1)
    stopped = billing.post(f"/api/provider/fleet/{run['id']}/cancel")
    assert (stopped.status_code, stopped.json()["run"]["status"]) == (200, "cancelled")
    assert [one["id"] for one in billing.get("/api/provider/fleet").json()["items"]] == [run["id"]]


def test_calls_come_in_pages(billing, fleet):
    three = fleet("ada", "bob", "cyd")
    run = billing.post("/api/provider/fleet", {"action": "preview", "all": True}).json()["run"]
    first = billing.get(f"/api/provider/fleet/{run['id']}", limit=2).json()
    second = billing.get(f"/api/provider/fleet/{run['id']}", limit=2, cursor=first["nextCursor"]).json()
    assert {call["instance"] for call in first["calls"] + second["calls"]} == {fake.name for fake, _ in three}
    assert second["nextCursor"] is None


def test_totals_and_invoices_carry_their_coverage(billing, fleet):
    (fake, instance), (dead, _) = two = fleet("ada", "bob")
    fake.add_invoice(1200, status="open")
    dead.stop()
    sync._ensure_states()
    sync_many([one.pk for _, one in two])
    totals = billing.get("/api/provider/totals", by="client").json()
    assert (
        totals["rows"][0] | {"billedCents": 1200, "outstandingCents": 1200, "currency": "usd"}
        == totals["rows"][0]
    )
    assert (totals["coverage"]["answered"], totals["coverage"]["of"], totals["coverage"]["complete"]) == (
        1,
        2,
        False,
    )
    assert (
        totals["coverage"]["stale"][0] | {"name": "bob", "since": None, "reason": "connect_failed"}
        == totals["coverage"]["stale"][0]
    )
    page = billing.get(
        "/api/provider/invoices", status="open", instanceId=str(instance.pk), **{"from": "2026-01-01"}
    ).json()
    assert [row["totalCents"] for row in page["items"]] == [1200]
    assert page["coverage"]["answered"] == 1
    assert billing.post("/api/provider/fleet/sync", {"instanceIds": [str(instance.pk)]}).json() == {
        "ok": True,
        "queued": 1,
    }


def test_a_spreadsheet_runs_nothing(billing, fleet):
    [(fake, instance)] = fleet("ada")
    for name in ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", ' =1"', 'plain, "quoted"'):
        fake.add_invoice(100, customer={"id": "1", "name": name, "email": ""})
    sync._ensure_states()
    sync_many([instance.pk])
    answer = billing.get("/api/provider/invoices.csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["X-Coverage"].startswith("1 of 1, as of ")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert len(rows) == 7
    for row in rows:
        assert not row["customer"].lstrip().startswith(("=", "+", "-", "@"))
        assert row["total (minor units)"] == "100"
    assert AuditEvent.objects.filter(kind="export.made").count() == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/api/provider/fleet"),
        ("post", "/api/provider/fleet"),
        ("get", f"/api/provider/fleet/{NOBODY}"),
        ("post", f"/api/provider/fleet/{NOBODY}/cancel"),
        ("post", f"/api/provider/fleet/{NOBODY}/retry"),
        ("get", "/api/provider/totals"),
        ("get", "/api/provider/invoices"),
        ("get", "/api/provider/invoices.csv"),
        ("post", "/api/provider/fleet/sync"),
    ],
)
def test_nobody_gets_nothing(client, db, method, path):
    refused(getattr(client, method)(path, content_type="application/json"), 401, "not_signed_in")


def test_support_reads_and_does_not_act(support, fleet):
    fleet("ada")
    assert support.get("/api/provider/totals").status_code == 200
    for path in ("/api/provider/fleet", "/api/provider/fleet/sync", f"/api/provider/fleet/{NOBODY}/cancel"):
        refused(support.post(path, {"action": "draft", "all": True}), 403, "forbidden")
    assert not FleetRun.objects.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_field"),
        ({"action": "draft"}, "invalid_field"),
        ({"action": "draft", "all": False}, "invalid_field"),
        ({"action": "draft", "all": True, "instanceIds": ["x"]}, "invalid_field"),
        ({"action": "draft", "instanceIds": []}, "invalid_field"),
        ({"action": "rob", "all": True}, "invalid_field"),
        ({"action": 5, "all": True}, "invalid_field"),
        ({"action": "draft", "all": True, "amountCents": 5}, "unknown_field"),
        ({"action": "draft", "all": True, "params": {"rnage": "d7"}}, "unknown_field"),
        ({"action": "draft", "all": True, "params": {"start": "2026-01-01"}}, "invalid_field"),
        ({"action": "draft", "all": True, "params": {"start": "soon", "end": "later"}}, "invalid_field"),
        ({"action": "sync", "all": True, "params": {"range": "d7"}}, "invalid_field"),
        ([], "invalid_field"),
        ({"action": "draft", "all": True}, "no_instances"),
    ],
)
def test_bad_bodies(billing, body, code):
    refused(billing.post("/api/provider/fleet", body), 400, code)
    assert not FleetRun.objects.exists()


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[1", b"nul", b'{"action": NaN}'])
def test_bodies_that_are_not_json(billing, raw):
    answer = billing.client.post(
        "/api/provider/fleet", raw, content_type="application/json", headers=billing.headers
    )
    assert answer.status_code == 400
    assert answer.json()["ok"] is False


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/api/provider/fleet/not-an-id", {}, 404, "not_found"),
        (f"/api/provider/fleet/{NOBODY}", {}, 404, "not_found"),
        ("/api/provider/fleet", {"cursor": "xyz"}, 400, "bad_cursor"),
        ("/api/provider/fleet", {"limit": "0"}, 400, "invalid_field"),
        ("/api/provider/fleet", {"limit": "many"}, 400, "invalid_field"),
        ("/api/provider/fleet", {"offset": "3"}, 400, "unknown_field"),
        ("/api/provider/totals", {"by": "moon"}, 400, "invalid_field"),
        ("/api/provider/totals", {"statsu": "paid"}, 400, "unknown_field"),
        ("/api/provider/totals", {"from": "yesterday"}, 400, "invalid_field"),
        ("/api/provider/totals", {"to": "9999-12-31"}, 400, "invalid_field"),
        ("/api/provider/totals", {"currency": "dollars"}, 400, "invalid_field"),
        ("/api/provider/invoices", {"cursor": "W10"}, 400, "bad_cursor"),
        ("/api/provider/invoices", {"cursor": "WyJ4IiwxXQ"}, 400, "bad_cursor"),
        ("/api/provider/invoices", {"instanceId": "x"}, 404, "not_found"),
        ("/api/provider/invoices", {"instanceId": str(NOBODY)}, 404, "not_found"),
        ("/api/provider/invoices", {"order_by": "password"}, 400, "unknown_field"),
        ("/api/provider/nothing", {}, 404, "not_found"),
    ],
)
def test_bad_queries(billing, path, query, status, code):
    refused(billing.get(path, **query), status, code)


def test_a_repeated_parameter_is_refused(billing):
    refused(
        billing.client.get("/api/provider/totals?by=client&by=month", headers=billing.headers),
        400,
        "repeated_field",
    )


def test_strange_searches_find_nothing_and_break_nothing(billing, fleet):
    fleet("ada")
    for word in ("'; DROP TABLE x; --", "%", "\\", "\ud83d", "a" * 100):
        assert (
            billing.get("/api/provider/invoices", search=word.encode("utf-8", "replace").decode()).json()[
                "items"
            ]
            == []
        )


def test_a_control_character_is_no_search(billing):
    assert billing.get("/api/provider/invoices", search="\u0000").status_code == 400


def test_wrong_methods_are_json_and_name_the_right_ones(billing):
    answer = billing.client.delete("/api/provider/fleet", headers=billing.headers)
    refused(answer, 405, "method_not_allowed")
    assert set(answer["Allow"].replace(" ", "").split(",")) == {"GET", "POST"}

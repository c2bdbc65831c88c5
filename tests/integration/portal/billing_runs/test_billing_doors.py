"""A billing run through the API, the command line and the pages."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from tests.integration.portal.billing_runs.walk import item, planned
from tests.integration.portal.revenue.rig import FEBRUARY, run_jobs
from typer.testing import CliRunner

from provider_federation.cli.billing import app
from provider_federation.kit.problem import Problem
from provider_federation.portal.billing_runs.models import BillingRun
from provider_federation.portal.operators.models import Operator

RUNS = "/api/provider/billing/runs"


def post(api: Client, path: str, body: Any = None) -> Any:
    content = {"content_type": "application/json", **({} if body is None else {"data": json.dumps(body)})}
    answer = api.post(f"{RUNS}{path}", **content)
    return answer.status_code, answer.json()


def test_the_whole_run_over_http(books, grow, api):
    grow("ada")[0].uses(FEBRUARY, 2, "5")
    grow("bea")[0].uses(FEBRUARY, 1, calls=-1)
    status, made = post(api, "", {"period": FEBRUARY})
    assert (status, made["run"]["status"], made["run"]["planHash"]) == (202, "planning", "")
    run_jobs()
    path = f"/{made['run']['id']}"
    seen = api.get(f"{RUNS}{path}").json()
    assert seen["report"]["states"] == {"ready": 1, "held": 1}
    assert seen["report"]["totals"] == [
        {"currency": "usd", "plannedCents": 20_500, "billedCents": 0, "lastMonthCents": 0}
    ]
    assert seen["report"]["coverage"] == {"answered": 2, "of": 2, "complete": True, "disabled": 0}
    [held] = api.get(f"{RUNS}{path}/items?state=held").json()["items"]
    assert (held["clientOrgId"], held["holdCode"], held["lines"]) == ("org_bea", "negative_usage", [])
    first = api.get(f"{RUNS}{path}/items?sort=total&limit=1").json()
    assert [line["amountCents"] for line in first["items"][0]["lines"]] == [20_000, 500]
    assert api.get(f"{RUNS}{path}/items?cursor={first['nextCursor']}").json()["items"][0]["state"] == "held"
    assert post(api, f"{path}/approve", {"planHash": "sha256:" + "1" * 64})[1]["reason"] == "hash_mismatch"
    assert post(api, f"{path}/approve", {"planHash": seen["run"]["planHash"]})[0] == 200
    assert post(api, f"{path}/execute")[0] == 202
    run_jobs()
    done = api.get(f"{RUNS}{path}").json()
    assert (done["run"]["status"], done["report"]["totals"][0]["billedCents"]) == ("done", 20_500)
    csv = api.get(f"{RUNS}{path}/report.csv").content.decode()
    assert csv.count("\r\n") == 3
    assert "negative_usage" in csv
    assert post(api, f"{path}/retry", {"clientOrgIds": ["org_ada"]})[1]["reason"] == "nothing_held"
    assert post(api, f"{path}/cancel")[1]["reason"] == "run_finished"
    assert [one["id"] for one in api.get(RUNS).json()["items"]] == [done["run"]["id"]]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("", {"period": "2026-13"}, "bad_date"),
        ("", {"period": "February"}, "invalid_field"),
        ("", {"period": FEBRUARY, "totalCents": 1}, "unknown_field"),
        ("", {"period": "2026-03"}, "period_open"),
        ("/00000000-0000-4000-8000-000000000000/cancel", None, "not_found"),
        ("/none/execute", None, "not_found"),
    ],
)
def test_what_makes_no_sense_is_refused(grow, api, path, body, reason):
    assert post(api, path, body)[1]["reason"] == reason


@pytest.fixture
def type_in(transactional_db: None) -> Iterator[Any]:
    handlers = logging.getLogger().handlers[:]

    def run(line: str) -> str:
        done = CliRunner().invoke(app, line.split())
        if isinstance(done.exception, Problem):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    yield run
    logging.getLogger().handlers[:] = handlers


def test_the_whole_run_on_the_command_line(books, grow, type_in, tmp_path):
    grow("ada")[0].uses(FEBRUARY, 2, "5")
    grow("bea")[0].uses(FEBRUARY, 1, calls=-1)
    assert "planning" in type_in(f"plan {FEBRUARY} --no-wait")
    run_jobs()
    shown = type_in(f"show {FEBRUARY}")
    run = BillingRun.objects.get()
    assert run.plan_hash in shown
    assert "$205.00" in shown
    assert "negative_usage" in type_in(f"show {FEBRUARY} --held")
    as_json = json.loads(type_in(f"show {run.pk} --json"))
    assert {one["clientOrgId"] for one in as_json["items"]} == {"org_ada", "org_bea"}
    with pytest.raises(Problem, match="not the hash"):
        type_in(f"approve {FEBRUARY} --hash sha256:{'0' * 64}")
    assert "approved" in type_in(f"approve {FEBRUARY} --hash {run.plan_hash}")
    type_in(f"execute {FEBRUARY} --no-wait")
    run_jobs()
    assert "done" in type_in(f"report {FEBRUARY} --csv {tmp_path / 'report.csv'}")
    assert (tmp_path / "report.csv").read_text().count("\n") == 3
    assert "planning" in type_in(f"retry {FEBRUARY} --client org_bea --reviewed --no-wait")
    run_jobs()
    assert "cancelled" in type_in(f"cancel {FEBRUARY}")


def test_the_whole_run_on_the_pages(books, grow):
    grow("ada")[0].uses(FEBRUARY, 2, "5")
    bea, _ = grow("bea")
    bea.uses(FEBRUARY, 1, calls=-1)
    client = Client()
    client.force_login(
        Operator.objects.create(email="ada@example.com", name="Ada", role="admin"),
        "allauth.account.auth_backends.AuthenticationBackend",
    )
    answer = client.post("/billing-runs/plan/", {"period": FEBRUARY})
    run = BillingRun.objects.get()
    path = f"/billing-runs/{run.pk}/"
    assert answer.headers["Location"] == path
    assert "hx-get" in client.get(path).content.decode()
    run_jobs()
    assert client.get(f"{path}progress/").headers["HX-Refresh"] == "true"
    run.refresh_from_db()
    dialogue = client.get(f"{path}approval/").content.decode()
    assert run.plan_hash in dialogue
    assert "$205.00" in dialogue
    assert "2 of 2 clients" in dialogue
    client.post(f"{path}approve/", {"plan_hash": run.plan_hash})
    client.post(f"{path}execute/")
    run_jobs()
    shown = client.get(f"{path}?state=billed&sort=-difference").content.decode()
    assert "Ada Ltd" in shown
    assert "Bea Ltd" not in shown
    bea.uses(FEBRUARY, 1)
    client.post(f"{path}retry/", {"client": "org_bea"})
    run_jobs()
    assert item(run, "bea").state == "ready"
    evidence = client.get(f"{path}clients/{item(run, 'bea').pk}/").content.decode()
    assert item(run, "bea").lines[0]["leads"][0][3] in evidence
    client.post(f"{path}cancel/")
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert client.get("/billing-runs/").status_code == 200


def test_the_review_sorts_by_how_far_it_is_from_last_month(grow, books):
    from provider_federation.portal.billing_runs import queries
    from provider_federation.portal.billing_runs.models import BillingPlanItem

    for name, leads in (("ada", 2), ("bea", 3), ("cyd", 1)):
        grow(name)[0].uses(FEBRUARY, leads)
    run = planned()
    BillingPlanItem.objects.filter(instance__name="cyd").update(previous_cents=90_000)
    names = [one.instance.name for one in queries.list_items(run, sort="difference").items]
    assert names == ["cyd", "bea", "ada"]

"""Health, metrics, headers, and what an anonymous caller may not see."""

from __future__ import annotations

import pytest
from django.db import connection

from provider_federation.portal.operators import services as operators


def test_live_touches_no_database(client):
    answer = client.get("/health/live")
    assert (answer.status_code, answer.json()["status"]) == (200, "live")


def test_ready_with_everything_in_place(client, db):
    assert client.get("/health/ready").json() == {"ok": True, "status": "ready"}


def test_ready_says_which_migration_is_missing(client, db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'fleet'")
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["failing"] == ["migrations"]
    assert "portal migrate" in answer.json()["error"]


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_only_reads(client, db, path, method):
    assert getattr(client, method)(path).status_code == 405


def test_metrics_for_this_machine(client, db):
    text = client.get("/metrics").content.decode()
    for name in (
        "portal_jobs",
        "portal_workers",
        "portal_oldest_waiting_job_seconds",
        "portal_sync_instances",
        "portal_fleet_calls",
    ):
        assert f"# TYPE {name} gauge" in text


def test_metrics_elsewhere_need_the_token(client, db, settings):
    away = {"REMOTE_ADDR": "192.0.2.1"}
    assert client.get("/metrics", **away).status_code == 404
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    settings.METRICS_TOKEN = "m" * 32
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}, **away).status_code == 404
    assert client.get("/metrics", headers={"Authorization": f"Bearer {'m' * 32}"}, **away).status_code == 200
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers={"Authorization": "Bearer "}, **away).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/health/live", "/api/provider/totals", "/api/nothing", "/accounts/login/", "/nothing", "/admin/"],
)
def test_headers_on_every_answer(client, db, path):
    answer = client.get(path)
    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "object-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert "no-store" in answer["Cache-Control"]
    assert "Access-Control-Allow-Origin" not in answer


def test_a_foreign_host_is_refused(client, db):
    answer = client.get("/api/provider/totals", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["reason"]) == (400, "bad_request")
    assert client.get("/accounts/login/", headers={"Host": "evil.example"}).status_code == 400


def test_the_openapi_document_is_for_development_and_admins(client, db, settings):
    assert client.get("/api/openapi.json").json()["info"]["title"] == "Provider Portal"
    settings.DEVELOPMENT = False
    assert client.get("/api/openapi.json").status_code == 404
    for role, status in (("support", 404), ("admin", 200)):
        operator = operators.add_operator(
            email=f"{role}@example.com", password="correct horse battery", role=role
        )
        client.force_login(operator)
        assert client.get("/api/openapi.json").status_code == status
    assert client.get("/api/docs").status_code == 404


def test_unknown_addresses_under_api_are_json(client, db):
    answer = client.get("/api/nothing")
    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")

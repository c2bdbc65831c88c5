"""/api/provider/instances: who may, what it answers, and what bad input gets (threats 113 to 118, 134, 147)."""

from __future__ import annotations

import json
import uuid

import pytest
from tests.integration.portal.directory.remote import SECRET, remote

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory import queries
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.operators import services as operators

pytestmark = pytest.mark.django_db
PATH = "/api/provider/instances"


class Program:
    def __init__(self, client, role: str) -> None:
        _, secret = operators.create_token(name=f"{role} program", role=role, actor="test")
        self.client, self.headers = client, {"Authorization": f"Bearer {secret}"}

    def send(self, method: str, path: str = "", body=None, raw: bytes | None = None):
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        return self.client.generic(
            method, PATH + path, data, content_type="application/json", headers=self.headers
        )


@pytest.fixture
def admin(client) -> Program:
    return Program(client, "admin")


@pytest.fixture(autouse=True)
def _here(settings) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    settings.DEVELOPMENT = True


def new(url: str, **extra) -> dict:
    return {
        "name": "acme",
        "title": "Acme",
        "clientOrgId": "org-acme",
        "baseUrl": url,
        "key": {"id": "key-1", "secret": SECRET},
        **extra,
    }


def refused(response, status: int, code: str) -> None:
    body = response.json()
    assert (response.status_code, body["ok"], body["reason"]) == (status, False, code), body
    assert body["error"].endswith(".")
    assert SECRET not in response.content.decode()


@pytest.fixture
def there():
    with remote() as running:
        yield running


@pytest.fixture
def row(there, admin) -> dict:
    response = admin.send("POST", body=new(there.url, aiCapCents=700, billingEmail="pay@example.com"))
    assert response.status_code == 200, response.content
    return response.json()["instance"]


def test_the_life_of_an_instance(there, admin, row) -> None:
    assert (row["check"]["ok"], row["check"]["mode"], row["check"]["capabilities"]) == (
        True,
        "sha256",
        ["billing", "usage"],
    )
    assert row["key"] | {"createdAt": "", "answeredAt": ""} == {
        "id": "key-1",
        "algorithm": "sha256",
        "status": "in_use",
        "publicKey": None,
        "scope": "provider",
        "notBefore": None,
        "notAfter": None,
        "createdAt": "",
        "retiredAt": None,
        "retiredThereAt": None,
        "answeredAt": "",
    }
    assert (row["pendingKey"], row["responseKey"], row["v2Since"]) == (None, None, None)
    assert (row["aiCapCents"], row["currency"], row["version"], row["clientOrgId"]) == (
        700,
        "usd",
        1,
        "org-acme",
    )
    path = f"/{row['id']}"
    assert admin.send("GET", path).json() == {"ok": True, "instance": row}
    listed = admin.send("GET", "?search=acm&state=ok&enabled=true&sort=name&limit=1").json()
    assert (listed["items"], listed["total"], listed["nextCursor"]) == ([row], 1, None)
    edited = admin.send("PATCH", path, {"version": 1, "title": "Acme Ltd"}).json()["instance"]
    assert (edited["title"], edited["version"], edited["aiCapCents"]) == ("Acme Ltd", 2, 700)
    assert admin.send("POST", path + "/disable", {"version": 2}).json()["instance"]["enabled"] is False
    assert admin.send("POST", path + "/enable", {"version": 3}).json()["instance"]["enabled"] is True
    there.secret = "Qm4vT9xL1rW6nB3yKd8J"
    assert admin.send("POST", path + "/check").json()["instance"]["check"]["code"] == "bad_signature"
    replaced = admin.send(
        "POST", path + "/key", {"version": 4, "key": {"id": "key-1", "secret": there.secret}}
    )
    assert replaced.json()["instance"]["check"]["ok"] is True
    assert {event.actor for event in AuditEvent.objects.filter(subject="instance:acme")} == {
        "token:admin program"
    }
    sealed = queries.current_key(Instance.objects.get()).sealed
    for response in (replaced, admin.send("GET"), admin.send("GET", path)):
        assert sealed not in response.content.decode()
        assert there.secret not in response.content.decode()


@pytest.mark.parametrize("role", ["support", "billing"])
def test_roles(client, there, row, role: str) -> None:
    program = Program(client, role)
    path = f"/{row['id']}"
    assert program.send("GET").status_code == 200
    assert program.send("GET", path).status_code == 200
    refused(program.send("POST", body=new(there.url, name="b", clientOrgId="b")), 403, "forbidden")
    refused(program.send("PATCH", path, {"version": 1, "title": "x"}), 403, "forbidden")
    for action in ("disable", "enable"):
        refused(program.send("POST", f"{path}/{action}", {"version": 1}), 403, "forbidden")
    refused(
        program.send("POST", path + "/key", {"version": 1, "key": {"id": "k", "secret": SECRET}}),
        403,
        "forbidden",
    )
    checked = program.send("POST", path + "/check")
    assert checked.status_code == (200 if role == "support" else 403)
    assert Instance.objects.get().version == 1


def test_nobody_without_a_token(client, row) -> None:
    for method, path in (
        ("get", ""),
        ("post", ""),
        ("get", f"/{row['id']}"),
        ("post", f"/{row['id']}/check"),
    ):
        response = getattr(client, method)(PATH + path)
        assert response.status_code == 401
        assert response.json()["reason"] == "not_signed_in"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"baseUrl": "http://example.com"}, 422, "base_url_not_allowed"),
        ({"baseUrl": "https://10.0.0.1"}, 422, "ssrf_blocked"),
        ({"baseUrl": "https://2130706433"}, 422, "ssrf_blocked"),
        ({"baseUrl": 5}, 400, "invalid_field"),
        ({"role": "admin"}, 400, "unknown_field"),
        ({"orgId": "x"}, 400, "unknown_field"),
        ({"keySecret": "x"}, 400, "unknown_field"),
        ({"version": 1}, 400, "unknown_field"),
        ({"enabled": False}, 400, "unknown_field"),
        ({"aiCapCents": "700"}, 400, "invalid_field"),
        ({"aiCapCents": 1.5}, 400, "invalid_field"),
        ({"aiCapCents": -1}, 400, "invalid_field"),
        ({"aiCapCents": 10**30}, 400, "invalid_field"),
        ({"aiCapCents": True}, 400, "invalid_field"),
        ({"name": "A b"}, 400, "invalid_field"),
        ({"name": "a\x00"}, 400, "invalid_field"),
        ({"title": "a\x00b"}, 400, "invalid_field"),
        ({"notes": "a\x00b"}, 400, "invalid_field"),
        ({"title": "\ud800"}, 400, "invalid_field"),
        ({"currency": "dollars"}, 400, "invalid_field"),
        ({"billingEmail": "x"}, 400, "invalid_field"),
        ({"key": {"id": "k", "secret": "short"}}, 400, "weak_secret"),
        ({"key": {"id": "k"}}, 400, "invalid_field"),
        ({"key": {"id": "k", "secret": SECRET, "algorithm": "none"}}, 400, "invalid_field"),
        ({"key": {"id": "k", "secret": SECRET, "extra": 1}}, 400, "unknown_field"),
        ({"key": {"id": "k", "secret": SECRET + "\x00"}}, 400, "invalid_field"),
        ({"key": {"id": "k", "secret": SECRET, "notAfter": "2026-01-01"}}, 400, "invalid_field"),
        ({"key": None, "enrolmentCode": "pf-guess"}, 400, "invalid_code"),
        ({"enrolmentCode": "pf-guess"}, 400, "invalid_field"),
        ({"responseKey": {"id": "acme-answers", "publicKey": "A" * 43 + "="}}, 400, "invalid_key"),
        ({"name": None}, 400, "invalid_field"),
    ],
)
def test_bad_instances_leave_no_row(admin, there, change: dict, status: int, code: str) -> None:
    refused(admin.send("POST", body=new(there.url, **change)), status, code)
    assert not Instance.objects.exists()


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b'"x"', b"[" * 50_000])
def test_bodies_that_are_no_object(admin, row, raw: bytes) -> None:
    for method, path in (
        ("POST", ""),
        ("PATCH", f"/{row['id']}"),
        ("POST", f"/{row['id']}/disable"),
        ("POST", f"/{row['id']}/key"),
    ):
        response = admin.send(method, path, raw=raw)
        assert response.status_code == 400
        assert response.json()["ok"] is False
    assert Instance.objects.get().version == 1


def test_the_same_name_twice(admin, there, row) -> None:
    refused(admin.send("POST", body=new(there.url)), 409, "instance_exists")
    refused(admin.send("POST", body=new(there.url, name="b")), 409, "instance_exists")


def test_versions(admin, row) -> None:
    path = f"/{row['id']}"
    assert admin.send("PATCH", path, {"version": 1, "title": "One"}).status_code == 200
    refused(admin.send("PATCH", path, {"version": 1, "title": "Two"}), 409, "conflict")
    refused(admin.send("POST", path + "/disable", {"version": 1}), 409, "conflict")
    refused(
        admin.send(
            "POST", path + "/key", {"version": 1, "key": {"id": "k", "secret": "Qm4vT9xL1rW6nB3yKd8J"}}
        ),
        409,
        "conflict",
    )
    for version in (0, -1, "2", None, 2**31, 1.5, True):
        refused(admin.send("PATCH", path, {"version": version, "title": "x"}), 400, "invalid_field")
    refused(admin.send("PATCH", path, {"title": "x"}), 400, "invalid_field")
    refused(admin.send("PATCH", path, {"version": 2, "baseUrl": ""}), 422, "base_url_not_allowed")
    refused(admin.send("PATCH", path, {"version": 2, "title": None}), 400, "invalid_field")
    for field in ("name", "clientOrgId", "key", "enabled", "id"):
        refused(admin.send("PATCH", path, {"version": 2, field: "x"}), 400, "unknown_field")
    assert Instance.objects.get().title == "One"


@pytest.mark.parametrize(
    "query",
    [
        "?sort=sealed",
        "?sort=name;drop",
        "?sort=keys__sealed",
        "?state=x",
        "?enabled=maybe",
        "?limit=0",
        "?limit=201",
        "?limit=x",
        "?cursor=x",
        "?unknown=1",
        "?sort=name&sort=title",
        "?search=%00",
        "?mode=%00",
        "?search=" + "a" * 201,
        "?name__startswith=a",
        "?cursor=" + "A" * 600,
    ],
)
def test_bad_queries(admin, query: str) -> None:
    response = admin.send("GET", query)
    assert response.status_code == 400
    assert response.json()["ok"] is False


def test_unknown_ids_and_methods(admin, row) -> None:
    for action in ("", "/check"):
        method = "POST" if action else "GET"
        refused(admin.send(method, f"/{uuid.uuid4()}{action}"), 404, "not_found")
    refused(admin.send("PATCH", f"/{uuid.uuid4()}", {"version": 1, "title": "x"}), 404, "not_found")
    for path in ("/1", "/x", "/../x", f"/{row['id']}x", f"/{row['id']}/secret"):
        assert admin.send("GET", path).status_code == 404
    for method, path in (
        ("DELETE", f"/{row['id']}"),
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", f"/{row['id']}/check"),
    ):
        response = admin.send(method, path)
        assert response.status_code == 405
        assert response.json()["ok"] is False

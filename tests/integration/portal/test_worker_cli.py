"""The operators' commands, as they are typed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.portal.fleet.fakes import FakeInstance
from typer.testing import CliRunner

from provider_federation.cli.portal import app
from provider_federation.kit.env import ConfigInvalid
from provider_federation.kit.problem import Problem
from provider_federation.kit.secrets import parse_master_keys
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.operators.models import ApiToken, Operator
from provider_federation.portal.worker import run_worker

PASSWORD = "correct horse battery"


@pytest.fixture
def type_in(db: None) -> Iterator[Any]:
    """`type_in("user list")`: what it printed. Logging is put back, since a command sets it up for its process."""
    handlers = logging.getLogger().handlers[:]

    def run(line: str, typed: str = "", code: int = 0) -> str:
        done = CliRunner().invoke(app, line.split(), input=f"{typed}\n")
        if isinstance(done.exception, Problem):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    yield run
    logging.getLogger().handlers[:] = handlers


def test_users(type_in):
    type_in("user add ada@example.com --role billing --password-stdin", PASSWORD)
    type_in("user role ada@example.com support")
    assert type_in("user list").split("\t")[:3] == ["ada@example.com", "support", "active"]
    before = Operator.objects.get().password
    type_in("user password ADA@example.com --password-stdin", PASSWORD + " staple")
    assert Operator.objects.get().password != before
    assert AuditEvent.objects.exclude(actor__startswith="cli:").count() == 0
    with pytest.raises(Problem, match="no such operator"):
        type_in("user role bob@example.com admin")
    with pytest.raises(Problem, match="password"):
        type_in("user add bob@example.com --password-stdin", "short")


def test_a_new_role_lets_nobody_in_who_was_switched_off(type_in):
    type_in("user add ada@example.com --role billing --password-stdin", PASSWORD)
    type_in("user role ada@example.com billing --inactive")
    type_in("user role ada@example.com support")
    assert Operator.objects.get().is_active is False
    type_in("user role ada@example.com support --active")
    assert Operator.objects.get().is_active is True


def test_tokens(type_in):
    secret = type_in("token make reporting --role support --days 3").strip()
    assert secret.startswith("pft_")
    listed = type_in("token list")
    assert "reporting" in listed
    assert secret not in listed
    type_in("token revoke reporting")
    assert ApiToken.objects.get().state == "revoked"
    with pytest.raises(Problem, match="no such token"):
        type_in("token revoke other")


def test_instances(type_in, settings):
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    fake = FakeInstance("ada")
    try:
        said = type_in(
            f"instance add ada org_ada {fake.base_url} key-ada --algorithm sha256 --secret-stdin", fake.secret
        )
        assert "OK: Answers signed calls." in said
        assert fake.secret not in said
        assert "ada\thttp://127.0.0.1" in type_in("instance list")
        type_in("instance check ada")
    finally:
        fake.stop()
    assert "connect_failed" in type_in("instance check ada", code=1)


def test_the_audit_trail_is_checked(type_in):
    type_in("token make reporting")
    assert "unbroken" in type_in("check-audit")


def test_a_new_master_key_fits_the_settings(type_in):
    made = type_in("new-master-key --name k2").strip()
    assert list(parse_master_keys("PORTAL_MASTER_KEYS", made)) == ["k2"]
    type_in("new-master-key --name k:2", code=2)


def test_too_small_a_pool_is_said_before_the_worker_starts(settings):
    with pytest.raises(ConfigInvalid, match="PORTAL_DB_POOL: must be at least 64 for 60 jobs at once"):
        run_worker(60)

"""The command `provider-federation instance`, as its user meets it."""

from __future__ import annotations

import os
import runpy
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.instance.conftest import command

from provider_federation.instance import settings as settings_module
from provider_federation.instance.database import database_settings
from provider_federation.kit.env import ConfigInvalid, Environment

PASSWORD = "a long enough passphrase"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A command in an environment of its own, on a fresh SQLite file."""
    environment = {
        **os.environ,
        "PROVIDER_FEDERATION_ENV": "development",
        "INSTANCE_DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": "",
        "PYTHONWARNINGS": "error",
    }

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        full = command("instance", *arguments)
        return subprocess.run(
            full, env={**environment, **more}, capture_output=True, text=True, timeout=120, check=False
        )

    return call


def test_from_nothing_to_data_and_people(run: Any, tmp_path: Path) -> None:
    early = run("serve", "--port", "1")
    assert (early.returncode, "instance migrate" in early.stderr) == (2, True)
    assert run("migrate").returncode == 0
    made = run("seed", "--leads", "40", "--months", "2", "--seed", "7")
    assert made.returncode == 0, made.stderr
    again = run("seed")
    assert (again.returncode, "empty" in again.stderr, "Traceback" in again.stderr) == (2, True, False)
    assert run("user", "add", "o@x.example", "--role", "owner", "--password", PASSWORD).returncode == 0
    assert run("user", "password", "o@x.example", INSTANCE_USER_PASSWORD=PASSWORD + "2").returncode == 0
    assert "o@x.example" in run("user", "list").stdout
    weak = run("user", "add", "p@x.example", "--password", "x")
    assert (weak.returncode, "weak_password" in weak.stderr) == (2, True)
    assert "0 applied" in run("apply-events").stdout
    secrets_file = tmp_path / "data" / "development-secrets.json"
    assert secrets_file.stat().st_mode & 0o077 == 0


def test_ai_calls_beyond_what_the_provider_told_are_refused(run: Any, tmp_path: Path) -> None:
    assert run("migrate").returncode == 0
    assert run("use-ai", "draft", "--cost", "0.5", "--calls", "7").stdout == "7 AI calls recorded.\n"
    with closing(sqlite3.connect(tmp_path / "data" / "instance.sqlite3")) as database, database:
        database.execute(
            "INSERT INTO entitlements_entitlement (id, version, plan, state, leads, users, ai_credits, support, "
            "valid_from, received_at) VALUES (1, 1, 'BASE', 'base', 100, 3, 8, 'community', ?, ?)",
            ("2026-01-01 00:00:00", "2026-01-01 00:00:00"),
        )
    assert run("use-ai", "draft", "--cost", "0.1").returncode == 0
    over = run("use-ai", "draft", "--cost", "0.1")
    assert (over.returncode, "plan_limit_reached" in over.stderr, "Traceback" in over.stderr) == (
        2,
        True,
        False,
    )
    assert run("use-ai", "draft", "--cost", "0.1", "--made").returncode == 0
    for wrong in ("1e3", "-1", "ten", "0.1234567890123"):
        refused = run("use-ai", "draft", f"--cost={wrong}", "--made")
        assert (refused.returncode, "bad_amount" in refused.stderr) == (2, True)


def test_a_taken_port_is_one_clear_line(run: Any) -> None:
    assert run("migrate").returncode == 0
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused = run("serve", "--port", str(port))
    assert refused.returncode == 2
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"PROVIDER_FEDERATION_ENV": "", "INSTANCE_SECRET_KEY": ""}, "INSTANCE_SECRET_KEY"),
        (
            {
                "PROVIDER_FEDERATION_ENV": "",
                "INSTANCE_SECRET_KEY": "x" * 60,
                "STRIPE_SECRET_KEY": "sk_test_x",
            },
            "STRIPE_WEBHOOK_SECRET",
        ),
        ({"PROVIDER_FEDERATION_ENV": "", "INSTANCE_SECRET_KEY": "x" * 31}, "INSTANCE_SECRET_KEY"),
        (
            {
                "PROVIDER_FEDERATION_ENV": "",
                "INSTANCE_SECRET_KEY": "x" * 60,
                "INSTANCE_BASE_URL": "http://acme.example",
            },
            "INSTANCE_BASE_URL",
        ),
        (
            {
                "PROVIDER_FEDERATION_ENV": "",
                "INSTANCE_SECRET_KEY": "x" * 60,
                "STRIPE_API_BASE": "http://stripe.example",
            },
            "STRIPE_API_BASE",
        ),
        (
            {
                "PROVIDER_FEDERATION_ENV": "",
                "INSTANCE_SECRET_KEY": "x" * 60,
                "STRIPE_SECRET_KEY": "sk_test_x",
                "STRIPE_WEBHOOK_SECRET": ",",
            },
            "STRIPE_WEBHOOK_SECRET",
        ),
        ({"INSTANCE_TRUSTED_PROXIES": "many"}, "INSTANCE_TRUSTED_PROXIES"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"PROVIDER_TIME_ZONE": "Mars/Base"}, "PROVIDER_TIME_ZONE"),
        ({"INSTANCE_PLAN": "GOLD"}, "INSTANCE_PLAN"),
        ({"INSTANCE_BASE_URL": "nothing"}, "INSTANCE_BASE_URL"),
        ({"PROVIDER_KEYS_JSON": "{"}, "PROVIDER_KEYS_JSON"),
        ({"PROVIDER_CLOCK_SKEW_SEC": "0"}, "PROVIDER_CLOCK_SKEW_SEC"),
        (
            {
                "PROVIDER_FEDERATION_ENV": "",
                "INSTANCE_SECRET_KEY": "x" * 60,
                "PROVIDER_FEDERATION_CLOCK": "/x",
            },
            "PROVIDER_FEDERATION_CLOCK",
        ),
        (
            {
                "PROVIDER_FEDERATION_ENV": "",
                "INSTANCE_SECRET_KEY": "x" * 60,
                "PROVIDER_KEYS_JSON": '{"a": "0123456789abcdef"}',
            },
            "PROVIDER_KEYS_JSON",
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_stops_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], variable: str
) -> None:
    for name, value in {"INSTANCE_DATA_DIR": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((ConfigInvalid, ValueError)) as stopped:
        runpy.run_path(settings_module.__file__)
    assert variable in str(stopped.value)
    assert "0123456789abcdef" not in str(stopped.value)


def test_the_folder_of_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    database_settings(Environment({}), tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0

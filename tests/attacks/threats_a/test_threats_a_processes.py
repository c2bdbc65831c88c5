"""Area A where it takes real processes: memory that workers share, and programs that must not start."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.attacks.servers.wire import Served
from tests.attacks.threats_a.world import BODY, ED25519, HMAC, LEGACY, MOVED, MOVES, at_once, signed
from tests.processes import wait_for_port

from provider_federation.demo.processes import free_ports
from provider_federation.protocol import Request

ROOT = Path(__file__).parents[3]


@contextmanager
def _worker(memory: Path) -> Iterator[tuple[Served, subprocess.Popen[bytes]]]:
    [port] = free_ports(1)
    command = [sys.executable, "-m", "tests.attacks.threats_a.threats_worker", str(port), str(memory)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            served = Served("uvicorn", "echo", port)
            wait_for_port(process, port)
            yield served, process
        finally:
            process.kill()


def _fifty(request: Request, *workers: Served) -> list[tuple[int, str | None]]:
    """The same request fifty times at once, to these in turn."""
    turns = iter(workers * 25)
    return sorted(answer.outcome for answer in at_once(50, lambda: next(turns).call(request)))


def test_threats_002_003_066_workers_share_what_was_used_and_a_killed_one_forgets_nothing(tmp_path):
    memory = tmp_path / "replay.sqlite3"
    with ExitStack() as stack:
        first, process = stack.enter_context(_worker(memory))
        second, _ = stack.enter_context(_worker(memory))
        for key in (HMAC, ED25519, LEGACY):
            assert (
                _fifty(signed(key, "POST", "/a", BODY), first, second)
                == [(200, None)] + [(401, "replayed")] * 49
            )
        assert first.call(signed(MOVED)).status == 200
        assert first.call(signed(MOVES)).status == 200
        assert second.call(signed(MOVED)).outcome == (401, "downgrade_refused")
        request = signed(HMAC, "POST", "/b", BODY)
        assert first.call(request).status == 200
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert second.call(request).outcome == (401, "replayed")
        third, _ = stack.enter_context(_worker(memory))
        assert third.call(request).outcome == (401, "replayed")


GOOD = {"secret": secrets.token_urlsafe(32), "algorithm": "sha256"}
OUTSIDE = {"PROVIDER_FEDERATION_ENV": "production"}
NO_START = {
    "067 h31 outside development": ({"k": {**GOOD, "algorithm": "h31"}}, OUTSIDE, "config_h31_in_production"),
    "067 environment not set": ({"k": {**GOOD, "algorithm": "h31"}}, {}, "config_h31_in_production"),
    "067 plain keys without the flag": ({"k": GOOD["secret"]}, OUTSIDE, "config_h31_in_production"),
    "085 an array": ([GOOD["secret"]], OUTSIDE, "config_invalid"),
    "085 no JSON": ("{", OUTSIDE, "config_invalid"),
    "085 doubled": ('{"k": {}, "k": {}}', OUTSIDE, "config_invalid"),
    "085 a byte order mark": ("\ufeff{}", OUTSIDE, "config_invalid"),
    "085 deep": ("[" * 50_000, OUTSIDE, "config_invalid"),
    "086 short": ({"k": {"secret": "short", "algorithm": "sha256"}}, OUTSIDE, "config_weak_secret"),
    "086 of the vectors": ({"k": {"secret": "provider-federation-test-secret-1", "algorithm": "hmac-sha256"}}, OUTSIDE, "config_weak_secret"),
    "087 one secret twice": ({"a": GOOD, "b": {**GOOD, "algorithm": "hmac-sha256"}}, OUTSIDE, "config_secret_reuse"),
}  # fmt: skip
_READ = """
import os, sys
from provider_federation.adapters.environment import gate_from_environment
from provider_federation.protocol.config import ConfigurationError
try:
    gate_from_environment()
except ConfigurationError as error:
    print(error.code, error)
    sys.exit(3)
print("started")
"""


def _started(
    command: list[str], keys: object, environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    told = keys if isinstance(keys, str) else json.dumps(keys)
    more = {
        "PROVIDER_KEYS_JSON": told, "PROVIDER_FEDERATION_ENABLED": "1", "INSTANCE_NAME": "acme", "INSTANCE_DATA_DIR": str(folder),
        "INSTANCE_SECRET_KEY": secrets.token_urlsafe(40), "INSTANCE_BASE_URL": "https://acme.example",
    }  # fmt: skip
    return subprocess.run(
        command,
        env=kept | more | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
    )


@pytest.mark.parametrize("case", NO_START, ids=str)
def test_threats_067_085_086_087_an_app_does_not_start(case, tmp_path):
    keys, environment, code = NO_START[case]
    done = _started([sys.executable, "-c", _READ], keys, environment, tmp_path)
    assert (done.returncode, done.stdout.split(" ")[0]) == (3, code), done
    assert "PROVIDER_KEYS_JSON" in done.stdout
    assert GOOD["secret"] not in done.stdout + done.stderr


def test_threat_067_our_own_instance_does_not_start_either(tmp_path):
    [port] = free_ports(1)
    command = [
        sys.executable,
        "-c",
        "from provider_federation.cli import main; main()",
        "instance",
        "serve",
        "--port",
        str(port),
    ]
    done = _started(
        command,
        {"k": {**GOOD, "algorithm": "h31"}},
        {"PROVIDER_FEDERATION_ENV": "production", "DATABASE_URL": ""},
        tmp_path,
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "PROVIDER_KEYS_JSON" in said
    assert "h31" in said
    assert GOOD["secret"] not in said

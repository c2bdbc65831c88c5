"""The Node program: every vector, against a running instance of ours, and as an instance that a portal calls."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from provider_federation.demo.processes import Child, Supervisor, free_ports, run_to_end
from provider_federation.portal.shim import Answered, BadAnswer, Call, Outcome, RefusedThere, Target, call_now
from provider_federation.protocol import Key

NODE = shutil.which("node")
ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "node" / "main.mjs"
TARGETS = ["/api/echo?q=a+b&q=%20%C3%A9&x=", "/api/echo/caf%C3%A9/", "/api/echo"]

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")


def _ed25519(name: str, **more: str) -> Key:
    seed = secrets.token_bytes(32)
    return Key(name, "ed25519", seed, bytes(SigningKey(seed).verify_key), **more)


KEYS = {
    "sha256": Key("portal-sha256", "sha256", secrets.token_urlsafe(32).encode()),
    "hmac-sha256": Key("portal-hmac", "hmac-sha256", secrets.token_urlsafe(32).encode(), instance="acme"),
    "ed25519": _ed25519("portal-ed25519", instance="acme"),
}
ANSWERING = _ed25519("acme-answers")


def _fields(key: Key) -> dict[str, str]:
    """A key in the vectors' form."""
    return {
        "id": key.id,
        "algorithm": key.algorithm,
        "scope": key.scope,
        "secret_base64": base64.b64encode(key.secret).decode(),
        "public_key_base64": base64.b64encode(key.public_key).decode(),
    }


def _config(folder: Path, **more: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({"keys": [_fields(key) for key in [*KEYS.values(), ANSWERING]], **more}))
    return path


def _node(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NODE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )


def test_it_is_as_short_as_it_says():
    assert len((PROGRAM.parent / "federation.mjs").read_text().splitlines()) <= 150


def test_it_passes_every_vector():
    done = _node("tests/scenarios/node_vectors.mjs", PROGRAM.parent / "federation.mjs", ROOT / "vectors")
    count, bad = done.stdout.splitlines()[-1].split()
    assert (int(bad), done.returncode) == (0, 0), done.stdout + done.stderr
    assert int(count) > 300


# Node as the portal, our instance behind it


@pytest.fixture(scope="module")
def instance(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("instance-for-node")
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    told = {
        key.id: {
            "algorithm": name,
            **(
                {"public_key": base64.b64encode(key.public_key).decode()}
                if name == "ed25519"
                else {"secret": key.secret.decode()}
            ),
        }
        for name, key in KEYS.items()
    }
    answering = {"id": ANSWERING.id, "secret": base64.b64encode(ANSWERING.secret).decode()}
    environment = {
        "PROVIDER_FEDERATION_ENV": "development", "PYTHONWARNINGS": "default", "DATABASE_URL": "",
        "INSTANCE_DATA_DIR": str(folder / "acme"), "INSTANCE_BASE_URL": url, "INSTANCE_NAME": "acme",
        "INSTANCE_ORG_ID": "org_acme", "INSTANCE_TITLE": "Acme", "PROVIDER_FEDERATION_ENABLED": "1",
        "PROVIDER_FEDERATION_SIG_SHA256": "1", "PROVIDER_KEYS_JSON": json.dumps(told),
        "PROVIDER_RESPONSE_KEY_JSON": json.dumps(answering),
    }  # fmt: skip
    run_to_end("acme", ["instance", "migrate"], environment)
    supervisor = Supervisor(lambda _line: None)
    try:
        child = Child(
            "acme",
            ["instance", "serve", "--port", str(port)],
            environment,
            folder / "acme.log",
            f"{url}/health/ready",
        )
        supervisor.wait_ready(supervisor.start(child))
        yield url
    finally:
        supervisor.stop()


def _called(config: Path, key: str, *arguments: str) -> dict:
    done = _node(PROGRAM, "call", config, key, *arguments)
    assert done.returncode == 0, done.stderr
    answer: dict = json.loads(done.stdout)
    return answer


# Legacy first: once a pair has used v2, its legacy is over.
@pytest.mark.parametrize("algorithm", ["sha256", "hmac-sha256", "ed25519"])
def test_its_requests_are_good_and_it_believes_the_answers(instance, tmp_path, algorithm):
    key = KEYS[algorithm]
    config = _config(tmp_path, options={"instance": "acme", "scope": "provider", "org": "org_acme"})
    status = _called(config, key.id, "GET", f"{instance}/api/system/federation.status")
    assert (status["status"], status["body"]["instance"]) == (200, "acme")
    window = "/api/billing/invoices.create?range=d30"
    created = _called(config, key.id, "POST", instance + window, "{}")
    assert (created["status"], created["body"]["ok"]) == (200, True)
    assert status["signedBy"] == created["signedBy"] == (None if algorithm == "sha256" else ANSWERING.id)


def test_a_refusal_is_signed_too(instance, tmp_path):
    config = _config(tmp_path, options={"instance": "acme", "org": "org_other"})
    answer = _called(config, "portal-ed25519", "GET", f"{instance}/api/system/federation.status")
    assert (answer["status"], answer["body"]["reason"], answer["signedBy"]) == (
        403,
        "org_mismatch",
        ANSWERING.id,
    )


def test_it_does_not_believe_an_answer_that_a_stranger_signed(instance, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"keys": [_fields(KEYS["ed25519"])], "options": {"instance": "acme"}}))
    done = _node(PROGRAM, "call", path, "portal-ed25519", "GET", f"{instance}/api/system/federation.status")
    assert done.returncode != 0
    assert "unknown_key" in done.stderr


# Node as the instance, our portal's transport in front of it


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("node-instance")
    [port] = free_ports(1)
    policy = {"instance": "acme", "authorities": [f"127.0.0.1:{port}"], "skew": 300, "accept": list(KEYS)}
    config = _config(folder, policy=policy, answering=ANSWERING.id)
    with subprocess.Popen(
        [NODE, PROGRAM, "serve", config, str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("listening")
            yield port
        finally:
            process.terminate()


def _asked(port: int, key: Key, call: Call, **changed: object) -> Outcome:
    fields = {
        "base_url": f"http://127.0.0.1:{port}", "org_id": "org-1", "key": key, "private_hosts": ("127.0.0.1",),
        "answers": (ANSWERING,),
    } | changed  # fmt: skip
    return call_now(Target(name="acme", **fields), call)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("algorithm", ["sha256", "hmac-sha256", "ed25519"])
def test_it_verifies_a_portals_calls(node, algorithm, target):
    for call in (Call("GET", target), Call("POST", target, body={"note": "Zürich"})):
        outcome = _asked(node, KEYS[algorithm], call)
        assert isinstance(outcome, Answered), outcome
        assert outcome.data["key"] == KEYS[algorithm].id
        assert outcome.data["target"] == call.target
        assert outcome.data["bytes"] == len(call.content)


def test_its_refusals_reach_the_portal(node):
    wrong = Key(KEYS["hmac-sha256"].id, "hmac-sha256", secrets.token_bytes(32), instance="acme")
    outcome = _asked(node, wrong, Call("GET", "/api/echo", attempts=1))
    assert isinstance(outcome, RefusedThere | BadAnswer), outcome


def test_the_portal_does_not_believe_an_answer_that_another_key_signed(node):
    outcome = _asked(
        node, KEYS["ed25519"], Call("GET", "/api/echo", attempts=1), answers=(_ed25519("acme-answers"),)
    )
    assert isinstance(outcome, BadAnswer), outcome

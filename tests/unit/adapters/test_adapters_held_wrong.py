"""Adapters that are held the wrong way say so."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from flask import Flask

from provider_federation.adapters.environment import gate_from_environment
from provider_federation.adapters.flask import Federation
from provider_federation.adapters.gate import Gate
from provider_federation.adapters.wsgi_wire import request_of
from provider_federation.protocol import Key, Keyring, MemoryReplayStore, Policy, Refused, Request, sign

NOW = 1_790_000_000.0
KEYS = '{"hmac": {"algorithm": "hmac-sha256", "secret": "Zc0yqvW2mT8uXf4hJ7kLr9sPd1aGb5nE"}}'


@pytest.mark.parametrize("is_installed_first", [True, False])
def test_a_flask_decorator_above_the_route_protects_nothing_and_says_so(is_installed_first) -> None:
    app = Flask(__name__)
    federation = Federation(Gate(keyring=Keyring(), policy=Policy(instance="a"), replay=MemoryReplayStore()))
    view = app.get("/money")(lambda: "all of it")
    steps = [lambda: federation.install(app), lambda: federation.required(view)]
    first, second = steps if is_installed_first else reversed(steps)
    first()
    with pytest.raises(RuntimeError, match=r"below @app\.route"):
        second()


def test_a_gate_without_a_name_takes_requests_for_others_and_says_so(tmp_path, caplog) -> None:
    values = {"PROVIDER_FEDERATION_ENABLED": "1", "PROVIDER_KEYS_JSON": KEYS}
    where = {"PROVIDER_REPLAY_STORE": str(tmp_path / "used")}
    with caplog.at_level(logging.WARNING):
        gate_from_environment(values | where)
    assert "INSTANCE_NAME" in caplog.text


def test_a_mount_that_came_in_a_header_is_no_target(caplog) -> None:
    """Gunicorn takes SCRIPT_NAME from a peer on this machine: /a/b, as it was signed, would be routed as /b."""
    environ = {"REQUEST_METHOD": "GET", "RAW_URI": "/a/b", "SCRIPT_NAME": "/a", "PATH_INFO": "/b"}
    assert request_of(environ).target == "/a/b"
    assert request_of(environ | {"HTTP_SCRIPT_NAME": "/a"}).target == ""
    assert "SCRIPT_NAME" in caplog.text
    assert request_of(environ | {"HTTP_SCRIPT_NAME": "/c"}).target == "/a/b"  # which the server did not take


def test_a_gate_without_a_memory_is_none() -> None:
    with pytest.raises(TypeError, match="replay store"):
        Gate(keyring=Keyring(), policy=Policy(instance="a"), replay=None)


@pytest.mark.parametrize(("state", "code"), [({"revoked": True}, "revoked_key"), (None, "unknown_key")])
def test_a_key_that_ends_while_the_body_comes_has_ended(state, code) -> None:
    key = Key("hmac", "hmac-sha256", b"a secret of 32 bytes for v2 ....")
    gate = Gate(
        keyring=Keyring([key]), policy=Policy(instance="a"), replay=MemoryReplayStore(), now=lambda: NOW
    )
    bare = Request("POST", "/a", "acme.example", [("Host", "acme.example")], b"{}")
    signed = replace(bare, headers=bare.headers + sign(bare, key, now=NOW, instance="a"))
    claim = gate.check_head(replace(signed, body=b""))
    gate.keyring = Keyring([] if state is None else [replace(key, **state)])
    with pytest.raises(Refused, match=code):
        gate.admit(claim, signed, signed.body)

"""What a key that is on its way out, one with a borrowed name, or a code that is over may not do."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from dataclasses import replace

import pytest
from tests.integration.instance.federation.portal_rig import offer, pair

from provider_federation.adapters.signing import AnswerRefused
from provider_federation.instance.federation import asgi, services
from provider_federation.instance.federation.keyring import Snapshot
from provider_federation.instance.federation.models import FederationKey, Invitation
from provider_federation.instance.invoicing.services import set_provider_policy
from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, Principal, Request, sign
from provider_federation.protocol.config import read_environment
from provider_federation.protocol.pairing import code_key

ENROL = "/api/federation/enrol"
KEYS = "/api/federation/keys"
LIST = "/api/billing/list"


def retire(key: Key, seconds: int = 60) -> dict:
    return {"action": "retire", "keyId": key.id, "overlapSeconds": seconds}


def test_a_retired_key_of_the_environment_does_not_bring_itself_back(server, dial, enrolled) -> None:
    """Its row was never confirmed, because nobody introduced it."""
    by, answers = enrolled()
    old = server.keys["portal"]
    assert dial(by, answers).post(KEYS, json=retire(old)).json()["key"]["state"] == "retiring"
    services.confirm_key(Principal(old.id, "provider", None, "ed25519", "acme", "v2"), old.id)
    assert FederationKey.objects.get(key_id=old.id).not_after is not None


def test_an_introduced_key_that_is_retired_ends_at_once(dial, enrolled) -> None:
    by, answers = enrolled()
    new = pair("portal-new")
    dial(by, answers).post(KEYS, json={"action": "introduce", **offer(new)})
    assert dial(by, answers).post(KEYS, json=retire(new)).json()["key"]["state"] == "ended"
    with pytest.raises(AnswerRefused):
        dial(new, answers).post(KEYS, json={"action": "confirm", "keyId": new.id})
    assert FederationKey.objects.get(key_id=new.id).revoked_at is not None


def test_a_retiring_key_lets_no_other_in_and_ends_none(dial, enrolled) -> None:
    old, answers = enrolled()
    new = pair("portal-new")
    dial(old, answers).post(KEYS, json={"action": "introduce", **offer(new)})
    dial(new, answers).post(KEYS, json={"action": "confirm", "keyId": new.id})
    dial(new, answers).post(KEYS, json=retire(old))
    thief = dial(old, answers)
    for body in ({"action": "introduce", **offer(pair("thiefs"))}, retire(new, 0)):
        answer = thief.post(KEYS, json=body)
        assert (answer.status_code, answer.json()["reason"]) == (409, "key_retiring")
    assert dial(new, answers).get(LIST).status_code == 200
    assert thief.get(LIST).status_code == 200  # what the overlap is for


def test_no_key_is_named_as_those_of_codes_are(dial, enrolled) -> None:
    """Else it would pass for one, and an owner's freeze would not stop it."""
    key, answers = enrolled()
    answer = dial(key, answers).post(KEYS, json={"action": "introduce", **offer(pair("enrol-me"))})
    assert (answer.status_code, answer.json()["reason"]) == (400, "invalid_key")


def test_a_key_named_like_a_code_is_as_frozen_as_any(dial, enrolled) -> None:
    key, answers = enrolled()
    FederationKey.objects.filter(key_id=key.id).update(key_id="enrol-me")
    set_provider_policy(frozen=True)
    answer = dial(Key("enrol-me", "ed25519", secret=key.secret), answers).get(LIST)
    assert (answer.status_code, answer.json()["reason"]) == (403, "frozen")


def test_a_code_that_is_over_does_not_end_the_legacy_scheme(server, dial) -> None:
    """Else whoever kept one could shut out a portal that has no other key yet."""
    _, code = services.open_enrolment()
    services.close_enrolment()
    assert dial(code_key(code)).post(ENROL, json=offer(pair())).json()["reason"] == "enrolment_closed"
    assert server.get(LIST).status_code == 200


def test_noise_from_the_same_address_does_not_hide_the_guesses(server, dial) -> None:
    """Behind a proxy everybody has the same: more than a hundred failures a minute are nothing special."""
    _, code = services.open_enrolment()
    for _ in range(102):
        server.client.post(server.url + ENROL, headers={"X-Provider-KeyId": "nobody"})
    wrong = dial(Key(code_key(code).id, "hmac-sha256", secret=b"x" * 32))
    for _ in range(services.MOST_TRIES):
        with pytest.raises(AnswerRefused):
            wrong.post(ENROL, json=offer(pair()))
    assert Invitation.objects.get().closed_at is not None


def test_a_key_that_ends_while_the_body_is_on_its_way_writes_nothing(server, enrolled) -> None:
    """The head was read before the revocation, and no other request makes the server look again."""
    key, _ = enrolled()
    body = json.dumps({"action": "introduce", **offer(pair("thiefs"))}).encode()
    sent = [("Content-Type", "application/json")]
    request = Request("POST", KEYS, f"127.0.0.1:{server.port}", sent, body)
    headers = [*sent, *sign(request, key, now=clock.timestamp(), instance="acme")]
    head = [f"POST {KEYS} HTTP/1.1", f"Host: {request.authority}", f"Content-Length: {len(body)}"]
    head += [
        *(f"{name}: {value}" for name, value in headers),
        "Connection: close",
        "Expect: 100-continue",
        "",
        "",
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall("\r\n".join(head).encode())
        assert line.recv(100).startswith(b"HTTP/1.1 100")  # the head is proven
        services.revoke_key(key.id)
        line.sendall(body)
        assert b" 401 " in line.makefile("rb").readline()
    assert not FederationKey.objects.filter(key_id="thiefs").exists()


def test_keys_that_were_read_before_a_revocation_are_not_shown_after_it(settings, monkeypatch) -> None:
    settings.FEDERATION = read_environment({"PROVIDER_FEDERATION_ENABLED": "1", "INSTANCE_NAME": "acme"})
    assert asyncio.run(_overtaken(monkeypatch)) == [401, 401]


async def _overtaken(monkeypatch) -> list[int]:
    """Two requests at once: the one that began to read first has its answer last."""
    old, new = (asyncio.get_running_loop().create_future() for _ in range(2))
    monkeypatch.setattr(asgi, "_fresh", deque([old, new]).popleft)
    gate, key, body = asgi.FederationGate(_app), Key("k", "hmac-sha256", b"k" * 32), asyncio.Event()
    asked = [asyncio.create_task(_status(gate, key, body)) for _ in range(2)]
    for known, revoked in ((new, True), (old, False)):
        await asyncio.sleep(0)
        known.set_result(Snapshot(Keyring([replace(key, revoked=revoked)])))
        await asyncio.sleep(0)
    body.set()
    return [await one for one in asked]


async def _app(_scope, _receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _status(gate, key: Key, body: asyncio.Event) -> int:
    request = Request("GET", "/a", "acme.example", [], b"")
    signed = sign(request, key, now=clock.timestamp(), instance="acme")
    headers = [(name.lower().encode(), value.encode()) for name, value in [("Host", "acme.example"), *signed]]
    scope = {
        "type": "http", "method": "GET", "path": "/a", "raw_path": b"/a", "query_string": b"", "headers": headers,
    }  # fmt: skip
    sent: list[dict] = []

    async def receive() -> dict:
        await body.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    await gate(scope, receive, send)
    return sent[0]["status"]

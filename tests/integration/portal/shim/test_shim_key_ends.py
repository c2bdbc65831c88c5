"""A key that ends between a call and its answer: the call was made, and its answer counts."""

from __future__ import annotations

from provider_federation.kit import clock
from provider_federation.portal.shim.calls import Call, Target
from provider_federation.portal.shim.guard import parse_base_url
from provider_federation.portal.shim.signing import check_answer, signed_request
from provider_federation.portal.shim.transport import Reply
from provider_federation.protocol import Key, Response, sign_response
from provider_federation.protocol.pairing import new_seed
from provider_federation.protocol.signing import public_key


def test_an_answer_that_comes_after_the_keys_end_is_an_answer(monkeypatch) -> None:
    now, seed = 1_790_000_000.0, new_seed()
    answers = Key("answers", "ed25519", secret=seed, public_key=public_key(seed))
    key = Key("portal", "ed25519", secret=new_seed(), not_after=now + 1)
    target = Target("acme", "https://acme.example", "org", key, answers=(answers,))
    call = Call("POST", "/a", body={})
    monkeypatch.setattr(clock, "timestamp", lambda: now)
    request = signed_request(parse_base_url(target.base_url), target, call)
    body = b'{"ok": true}'
    headers = [("content-type", "application/json")]
    headers += sign_response(Response(200, headers, body), request, answers, now=now + 1)
    monkeypatch.setattr(clock, "timestamp", lambda: now + 2)
    reply = Reply(200, {name.lower(): value for name, value in headers}, body, headers)
    assert check_answer(reply, request, target, call) == int(now + 1)

"""The rules of the contract on every server and adapter, for both schemes, over real sockets."""

from __future__ import annotations

import pytest
from tests.attacks.servers.keys import (
    ANSWERS,
    ED25519,
    HMAC,
    HOST,
    LEGACY,
    LEGACY_READER,
    READER,
)
from tests.attacks.servers.rules import RULES, Rule, badly_signed
from tests.attacks.servers.wire import Served, raw, signed

from provider_federation.protocol import Key, Request

SCHEMES = pytest.mark.parametrize("key", [LEGACY, ED25519], ids=["legacy", "v2"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@SCHEMES
def test_threat(served: Served, rule: Rule, key: Key) -> None:
    built = rule.build(key)
    answer = served.send(*(built if isinstance(built, tuple) else (built,)))
    seen, refused = served.control()
    status, code = rule.expected(served.server, key)
    assert answer.status == status
    assert bool(seen) == (status == 200)
    if status == 200:
        assert seen[0]["key"] in {key.id, LEGACY_READER.id, READER.id}
    elif refused:  # else the server itself has said it
        assert refused[-1][0] == code
        assert answer.json.get("reason", code) == code


@pytest.mark.parametrize("key", [LEGACY, HMAC, ED25519], ids=lambda key: key.id)
def test_a_good_request_reaches_the_app_and_its_answer_is_signed(served: Served, key: Key) -> None:
    request = signed(key, "POST", "/good?x=a%2Fb", b"\x00raw\xff")
    answer = served.call(request)
    assert (answer.status, answer.json["key"], answer.json["scope"]) == (200, key.id, "provider")
    assert answer.json["body"] == "\x00raw\xff"
    if key is not LEGACY:
        assert answer.signer(request) in {key.id for key in ANSWERS}


def test_a_request_without_federation_headers_is_the_apps_own(served: Served) -> None:
    answer = served.send(
        b"GET /a//b HTTP/1.1\r\nHost: a\r\nCookie: s=1\r\nAuthorization: me\r\nConnection: close\r\n\r\n"
    )
    assert (answer.status, answer.json["key"]) == (200, None)
    assert (answer.json["cookie"], answer.json["authorization"]) == ("s=1", "me")
    assert not any(name.lower() == "signature" for name, _ in answer.headers)


@SCHEMES
def test_threat_091_a_good_one_acts_as_the_machine_only(served: Served, key: Key) -> None:
    answer = served.call(signed(key, "POST"), "Cookie: sessionid=owner", "Authorization: Bearer owner")
    assert (answer.status, answer.json["key"]) == (200, key.id)
    assert (answer.json["cookie"], answer.json["authorization"]) == ("", "")


@pytest.mark.parametrize(
    "line", ["X-Provider-KeyId: legacy", "X-Provider-Scope: provider", "Signature: pf=:AA==:"]
)
def test_threat_090_a_bad_federation_request_never_falls_through_to_cookies(
    served: Served, line: str
) -> None:
    head = f"GET /a HTTP/1.1\r\nHost: a\r\nCookie: session=owner\r\n{line}\r\nConnection: close\r\n\r\n"
    assert served.send(head.encode()).status in {400, 401}
    assert not served.control()[0]


@SCHEMES
def test_threats_001_009_a_write_is_accepted_once(served: Served, key: Key) -> None:
    request = signed(key, "POST", body=b"{}")
    assert served.call(request).status == 200
    assert served.call(request).outcome == (401, "replayed")
    assert len(served.control()[0]) == 1


def test_threat_010_a_flipped_byte_of_the_body(served: Served) -> None:
    request = signed(ED25519, "POST", body=b'{"amount": 1}')
    answer = served.send(raw(request).replace(b'"amount": 1', b'"amount": 9'))
    assert answer.outcome == (401, "digest_mismatch")
    assert answer.signer(request)
    assert not served.control()[0]


def test_threats_025_031_what_v2_covers_cannot_be_changed(served: Served) -> None:
    request = signed(ED25519, scope="read", org="org-1")
    for name, value in (
        ("X-Provider-Scope", "provider"),
        ("X-Provider-Org", "org-2"),
        ("Host", "other.example"),
    ):
        changed = [(n, value if n.lower() == name.lower() else v) for n, v in request.headers]
        assert served.call(Request("GET", "/a", HOST, changed, b"")).outcome == (401, "bad_signature")


def test_threat_035_a_request_for_another_instance(served: Served) -> None:
    request = Request("GET", "/a", HOST, [("Host", HOST)], b"")
    from provider_federation.protocol import sign

    headers = sign(request, ED25519, now=1_790_000_000.0, instance="globex")
    other = Request("GET", "/a", HOST, [*request.headers, *headers], b"")
    assert served.call(other).outcome == (401, "audience_mismatch")


def test_threat_066_a_pair_that_has_used_v2_does_not_go_back(served: Served) -> None:
    from tests.attacks.servers.keys import MOVED, MOVES

    assert served.signed(key=MOVED).status == 200
    assert served.signed(key=MOVES, target="/b").status == 200
    assert served.signed(key=MOVED, target="/c").outcome == (401, "downgrade_refused")
    assert served.signed(key=LEGACY, target="/d").status == 200


# Django's ASGI handler reads the body before any middleware of Django's runs; the one around it comes earlier.
EARLY = [
    *(
        (server, app)
        for server in ("h11", "httptools", "granian")
        for app in ("asgi", "fastapi", "around-django")
    ),
    *(("gunicorn", app) for app in ("wsgi", "flask", "django")),
]


@pytest.mark.parametrize(("server", "app"), EARLY)
@SCHEMES
def test_threat_094_a_bad_signature_is_refused_without_the_body(at, server: str, app: str, key: Key) -> None:
    """The body never comes. gunicorn asks for it before any app is there."""
    request = badly_signed(key, "POST", body=b"hello")
    answer = at(server, app).send(raw(request, "Expect: 100-continue", "Content-Length: 5", length=False))
    assert answer.outcome == (401, "bad_signature")
    assert (b"100 Continue" in answer.received) == (server == "gunicorn")


@SCHEMES
def test_threat_094_a_good_one_is_asked_for_its_body(served: Served, key: Key) -> None:
    request = signed(key, "POST", body=b"hello")
    answer = served.send(raw(request, "Expect: 100-continue", "Content-Length: 5", length=False), b"hello")
    assert (answer.status, answer.json["body"]) == (200, "hello")
    assert b"100 Continue" in answer.received

"""The vectors that other languages are held to, through every adapter on every server."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.attacks.servers.keys import CASES, HOST, NOW, VECTORS
from tests.attacks.servers.wire import Answer, Served
from tests.unit.protocol.vector_files import load, request_of

from provider_federation.protocol import Request

V2, REFUSALS = load("v2.json"), load("refusals.json")

# HTTP says that white space around a value is not part of it, and most servers take it off.
_TRIMMED = "malformed_header: a tab in a value"
# Refused all the same, in other words: WSGI joins what was sent twice.
_JOINED = {
    "duplicate_header: Content-Digest twice": "malformed_digest",
    "duplicate_header: Signature-Input twice": "malformed_signature_input",
    "duplicate_header: Signature twice": "malformed_signature",
}


def test_legacy(served: Served) -> None:
    for case in CASES:
        served.control(now=datetime.fromisoformat(case["timestamp"]).timestamp())
        headers = [
            ("Host", HOST), ("X-Provider-KeyId", VECTORS[case["secret"]].id),
            ("X-Provider-Timestamp", case["timestamp"]), ("X-Provider-Signature", case["sha256"]),
        ]  # fmt: skip
        answer = served.call(Request(case["method"], case["target"], HOST, headers, b""))
        assert (case["name"], *answer.outcome) == (case["name"], 200, None)


def test_v2(served: Served) -> None:
    for number, case in enumerate(V2["cases"]):
        served.control(file="v2.json", case=number)
        answer = served.vector(case["request"], *case["added"])
        assert (case["name"], *answer.outcome) == (case["name"], 200, None)
        assert answer.json["key"] == case["key"]
        assert answer.signer(request_of(case["request"], *case["added"]), NOW) == "acme-answers"


def test_refusals(served: Served) -> None:
    wrong = []
    for number, case in enumerate(REFUSALS["cases"]):
        served.control(file="refusals.json", case=number)
        for before in case.get("before", ()):
            assert served.vector(before).status == 200
        answer = served.vector(case["request"])
        seen, refused = served.control()
        if case["name"] == _TRIMMED and answer.status == 200:
            continue
        if len(seen) != len(case.get("before", ())) or not _fits(case, answer, refused, served):
            wrong.append((case["name"], answer.outcome, refused))
    assert not wrong, "\n".join(map(str, wrong))


def _fits(case: dict[str, Any], answer: Answer, refused: list[list[Any]], served: Served) -> bool:
    if not refused:  # the server itself
        return 400 <= answer.status < 500
    code = _JOINED.get(case["name"], case["code"]) if served.server == "gunicorn" else case["code"]
    if code != case["code"]:
        return 400 <= answer.status < 500 and refused[-1][0] == code
    return answer.outcome == (case["status"], case["reason"]) and refused[-1][0] == code

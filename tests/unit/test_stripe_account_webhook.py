"""Webhooks are verified on the raw bytes, in a window with two sides (threats 149 to 151)."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.stripe_account import (
    StripeEvent,
    StripeFailed,
    WebhookNotConfigured,
    WebhookRefused,
    verify_webhook,
)

SECRET = "whsec_" + "test" * 8
NOW = 1_800_000_000
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "invoice.paid",
    "created": NOW,
    "livemode": False,
    "data": {"object": {"id": "in_1", "object": "invoice"}},
}
RAW = json.dumps(EVENT).encode()


def signed(raw: bytes = RAW, at: int = NOW, secret: str = SECRET) -> str:
    return f"t={at},v1={hmac.new(secret.encode(), str(at).encode() + b'.' + raw, hashlib.sha256).hexdigest()}"


def refusal(raw=RAW, header=None, secret=SECRET, now=NOW, **more) -> str:
    with pytest.raises(WebhookRefused) as refused:
        verify_webhook(raw, signed(raw) if header is None else header, secret, now, **more)
    assert refused.value.status == 400
    return refused.value.code


def test_a_good_one():
    event = verify_webhook(RAW, signed(), SECRET, NOW)
    assert event == EVENT
    read = StripeEvent.read(event)
    assert (read.id, read.type, read.object_id, read.object_type) == (
        "evt_1",
        "invoice.paid",
        "in_1",
        "invoice",
    )


def test_what_the_sdk_signs_is_good():
    header = stripe.WebhookSignature.generate_signature_header(RAW.decode(), SECRET, NOW)
    assert verify_webhook(RAW, header, SECRET, NOW)["id"] == "evt_1"


def test_several_signatures_and_several_secrets():
    other = "whsec_" + "other" * 6
    both = signed(secret=other) + "," + signed().partition(",")[2]
    assert verify_webhook(RAW, both, SECRET, NOW)
    assert verify_webhook(RAW, signed(), [other, SECRET], NOW)
    assert verify_webhook(RAW, signed() + ",v0=" + "0" * 64, SECRET, NOW)


@pytest.mark.parametrize("off", [-300, -1, 0, 299.5, 300])
def test_the_window_has_two_sides(off):
    assert verify_webhook(RAW, signed(), SECRET, NOW + off)


@pytest.mark.parametrize("off", [-301, 301, 86_400, -86_400, 300.01])
def test_outside_the_window(off):
    assert refusal(now=NOW + off) == "timestamp_out_of_window"


V1 = signed().partition(",")[2]


@pytest.mark.parametrize(
    "header",
    [
        None, "", "garbage", "t=,v1=", V1, f"t={NOW}", f"t={NOW},v0={V1[3:]}", f"t={NOW},{V1.upper()}", f"t={NOW},v1={V1[3:].upper()}", f"t={NOW},t={NOW},{V1}",
        f"t=now,{V1}", f"t=+{NOW},{V1}", f"t=0{NOW},{V1}", f"t={NOW}.0,{V1}", f"t=-{NOW},{V1}", f"t={NOW},v1={V1[3:-1]}", f"t={NOW},v1={V1[3:]}0",
        f"t=\u0661,{V1}", f"t={NOW},v1={'é' * 64}", f"t={NOW}," + "v1=0," * 2000 + V1, f"t={'9' * 400},{V1}", f"T={NOW},{V1}", f"t={NOW + 1},{V1}",
    ],
)  # fmt: skip
def test_bad_headers(header):
    with pytest.raises(WebhookRefused) as refused:
        verify_webhook(RAW, header, SECRET, NOW)
    assert refused.value.code == "bad_signature"


def test_another_secret():
    assert refusal(header=signed(secret="whsec_wrong")) == "bad_signature"


@pytest.mark.parametrize(
    "raw",
    [
        RAW + b" ",
        RAW[:-1],
        b"\xef\xbb\xbf" + RAW,
        json.dumps(EVENT, separators=(",", ":")).encode(),
        json.dumps(EVENT, indent=1).encode(),
        b"",
    ],
)
def test_a_body_that_is_not_the_signed_one(raw):
    assert refusal(raw=raw, header=signed(RAW)) == "bad_signature"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff\xfe", b"\xef\xbb\xbf" + RAW, b"nonsense", b"[]", b"null", b"1", b'"x"', b"{}", RAW.replace(b'"event"', b'"v2.core.event"'), b"[" * 100_000,
        RAW.replace(b"false", b"NaN"), RAW.replace(b'"evt_1"', b"7"), RAW.replace(b'"evt_1"', b'""'), RAW.replace(b'"data": {', b'"datum": {'),
        b'{"id":"e","object":"event","type":"t","data":[]}', b'{"id":"e","object":"event","type":"t","data":{"object":"in_1"}}', b"9" * 5000,
    ],
)  # fmt: skip
def test_a_signed_body_that_is_no_event(raw):
    assert refusal(raw=raw) == "bad_payload"


@pytest.mark.parametrize("secret", ["", " ", [], [""], [SECRET, ""], ()])
def test_without_a_secret_nothing_is_verified(secret):
    with pytest.raises(WebhookNotConfigured) as refused:
        verify_webhook(RAW, signed(), secret, NOW)
    assert refused.value.code == "config_invalid"


def test_without_a_window_nothing_is_verified():
    with pytest.raises(WebhookNotConfigured):
        verify_webhook(RAW, signed(), SECRET, NOW, tolerance=0)


@given(st.binary(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_nothing_but_a_refusal_comes_out(raw, header, now):
    with pytest.raises(WebhookRefused):
        verify_webhook(raw, header, SECRET, now)


@given(st.binary(max_size=200))
def test_any_signed_bytes_are_an_event_or_a_refusal(raw):
    with pytest.raises(WebhookRefused) as refused:
        verify_webhook(raw, signed(raw), SECRET, NOW)
    assert refused.value.code == "bad_payload"


@given(st.integers(0, len(RAW) * 8 - 1))
def test_one_changed_bit_refuses(bit):
    changed = bytearray(RAW)
    changed[bit // 8] ^= 1 << (bit % 8)
    assert refusal(raw=bytes(changed), header=signed(RAW)) == "bad_signature"


def test_an_event_without_what_we_read_is_a_bad_answer():
    with pytest.raises(StripeFailed) as failed:
        StripeEvent.read({"id": "evt_1", "type": "x", "data": {"object": {}}})
    assert failed.value.code == "bad_answer"

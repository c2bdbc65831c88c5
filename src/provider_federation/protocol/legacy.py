"""The legacy scheme (contract, section 2.1): a tag over METHOD SP TARGET SP TIMESTAMP.

It covers neither body, scope, org nor host. What stands around it here keeps that from mattering more than it
must: docs/protocol.md says what remains.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from provider_federation.protocol.claims import Claim, check_time, key_fault
from provider_federation.protocol.grammar import FORWARDED, SAFE_METHODS, VISIBLE
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.signing import NOBODY
from provider_federation.protocol.values import IDENTIFIER, LEGACY_ALGORITHMS, Key, Keyring, Policy, Request

_KEY_ID, _TIMESTAMP, _SIGNATURE = "x-provider-keyid", "x-provider-timestamp", "x-provider-signature"

# Years that a clock can mean; 0000, 1969, 9999 and five digits are somebody trying something.
_INSTANT = re.compile(
    r"(?:19[7-9]\d|2\d{3})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z",
    re.ASCII,
)
_DECIMALS = [f".{millisecond:03}Z" for millisecond in range(1000)]
FRACTIONS = {text: millisecond / 1000 for millisecond, text in enumerate(_DECIMALS)}
_TAG = re.compile(r"sha256:[0-9a-f]{64}|h31:(?:0|[1-9a-f][0-9a-f]{0,7})", re.ASCII)


def sign(
    request: Request, key: Key, *, now: float, scope: str | None, org: str | None
) -> list[tuple[str, str]]:
    """The headers to add. `now` is cut to the millisecond."""
    second = int(now)
    microseconds = round((now - second) * 1e6)
    if not 0 <= microseconds < 1_000_000:
        second, microseconds = second + microseconds // 1_000_000, microseconds % 1_000_000
    timestamp = _second_text(second) + _DECIMALS[microseconds // 1000]
    payload = f"{request.method} {request.target} {timestamp}".encode()
    headers = [
        ("X-Provider-KeyId", key.id),
        ("X-Provider-Timestamp", timestamp),
        ("X-Provider-Signature", tag_of(key, payload)),
    ]
    if scope is not None:
        headers.append(("X-Provider-Scope", scope))
    if org is not None:
        headers.append(("X-Provider-Org", org))
    if not f"{scope}{org}".isascii() or not f"{scope}{org}".isprintable():
        raise CannotSign("scope and org are printable ASCII")
    return headers


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def is_signed(headers: dict[str, str]) -> bool:
    """Whether any header of a legacy signature is there."""
    return _KEY_ID in headers or _TIMESTAMP in headers or _SIGNATURE in headers


def check(
    request: Request,
    headers: dict[str, str],
    keyring: Keyring,
    policy: Policy,
    now: float,
    *,
    is_wrong: bool = False,
) -> Claim:
    """What these headers prove, or Refused. The body is not looked at: the scheme does not cover it.

    `is_wrong`: the signature is known to be none, and need not be computed.
    """
    key_id, timestamp, tag = _read(headers)
    payload = f"{request.method} {request.target} {timestamp}".encode()
    key = keyring.get(key_id)
    fault = "unknown_key" if key is None else key_fault(key, now)
    if key is None or fault is not None:
        if not is_wrong:  # both are `unknown_key` to the caller, and cost what a known one does
            hmac.compare_digest("sha256:" + NOBODY["hmac-sha256"].mac(payload).hexdigest(), tag)
        raise Refused(fault or "unknown_key", key_id=key_id)
    _check_algorithm(request, headers, key, tag, policy, now)
    signed_at = _instant(timestamp, key_id)
    check_time(signed_at, now, policy.skew, key_id)
    if is_wrong or not hmac.compare_digest(tag_of(key, payload), tag):
        raise Refused("bad_signature", key_id=key_id)
    return Claim(
        key=key,
        scope=headers.get("x-provider-scope"),
        org=headers.get("x-provider-org"),
        instance=headers.get("x-provider-instance"),
        token=None if request.method in SAFE_METHODS else tag,
        expires=signed_at + policy.skew,
    )


def _read(headers: dict[str, str]) -> tuple[str, str, str]:
    try:
        key_id, timestamp, tag = headers[_KEY_ID], headers[_TIMESTAMP], headers[_SIGNATURE]
    except KeyError:
        raise Refused("missing_headers") from None
    if not IDENTIFIER.fullmatch(key_id):
        raise Refused("malformed_header")
    if not _INSTANT.fullmatch(timestamp):
        raise Refused(_fault(timestamp, "bad_timestamp"), key_id=key_id)
    if not _TAG.fullmatch(tag):
        raise Refused(_fault(tag, "malformed_signature"), key_id=key_id)
    return key_id, timestamp, tag


def _fault(value: str, code: str) -> str:
    """What no header may hold is the header's fault before it is the timestamp's or the signature's."""
    return code if VISIBLE.fullmatch(value) else "malformed_header"


def _check_algorithm(
    request: Request, headers: dict[str, str], key: Key, tag: str, policy: Policy, now: float
) -> None:
    algorithm = key.algorithm
    if algorithm not in LEGACY_ALGORITHMS:
        raise Refused("downgrade_refused", key_id=key.id)
    if not tag.startswith(algorithm) or algorithm not in policy.accept:
        raise Refused("algorithm_not_allowed", key_id=key.id)
    if policy.legacy_until is not None and not now < policy.legacy_until:
        raise Refused("downgrade_refused", key_id=key.id)
    if algorithm == "h31" and not (
        policy.development and from_this_machine(request.peer, is_forwarded=FORWARDED in headers)
    ):
        raise Refused("algorithm_not_allowed", key_id=key.id)


def from_this_machine(peer: str | None, *, is_forwarded: bool) -> bool:
    """The socket's other end is loopback, and no proxy says that it speaks for somebody else.

    `None` is a request that came over no socket (vectors, a test, a value made by hand): development vouches for
    it. Adapters always name the peer, and "" when the server does not know it, which is nobody.
    """
    if is_forwarded:
        return False
    if peer is None:
        return True
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _instant(timestamp: str, key_id: str) -> float:
    try:
        return SECONDS[timestamp[:19]] + FRACTIONS[timestamp[19:]]
    except KeyError:
        raise Refused("bad_timestamp", key_id=key_id) from None


class _Seconds(dict[str, int]):
    """The text of a second to seconds since 1970 UTC; bounded. KeyError for any other text."""

    def __missing__(self, text: str) -> int:
        if not _INSTANT.fullmatch(text + ".000Z"):
            raise KeyError(text)
        try:
            second = round(datetime.fromisoformat(text + "Z").timestamp())
        except ValueError:  # the 31st of February
            raise KeyError(text) from None
        if len(self) >= 1024:
            self.clear()
        self[text] = second
        return second


SECONDS = _Seconds()


def tag_of(key: Key, payload: bytes) -> str:
    """The signature of `payload`, as its header says it."""
    if key.algorithm == "sha256":
        return "sha256:" + key.mac(payload).hexdigest()
    return f"h31:{key.h31(payload):x}"

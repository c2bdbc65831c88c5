"""What a request may look like before anything is computed: sizes, headers, method, target."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.values import Policy, Request

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
MAX_TARGET = 8_192

FEDERATION_HEADERS = frozenset(
    {
        "x-provider-keyid",
        "x-provider-timestamp",
        "x-provider-signature",
        "x-provider-scope",
        "x-provider-org",
        "x-provider-instance",
        "signature",
        "signature-input",
    }
)
_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})
_CONTENT = frozenset({"content-digest", "content-type", "content-encoding", "idempotency-key"})
FORWARDED = "(forwarded)"
"""The place of all headers in which a proxy says for whom it speaks: no header has this name."""
_KEPT = {name: name for name in FEDERATION_HEADERS | _FRAMING | _CONTENT} | dict.fromkeys(
    ("forwarded", "x-forwarded-for", "x-real-ip", FORWARDED), FORWARDED
)
_LONGEST_NAME = 256


class _Names(dict[str, str | None]):
    """Spelling to the name it is kept under, None for headers that do not matter; spellings met are remembered."""

    def __missing__(self, name: str) -> str | None:
        if len(name) > _LONGEST_NAME:
            raise Refused("headers_too_large")
        kept = _KEPT.get(name.lower())
        if len(self) < 1024:
            self[name] = kept
        return kept


NAMES = _Names()

VISIBLE = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
"""What a header of ours may hold: printable ASCII, and no space around it."""

# Letters, digits and marks that RFC 3986 allows in a path segment, but no ';'; escapes take the longer way.
_SEGMENT = r"/(?!\.\.?(?:[/?]|\Z))[A-Za-z0-9\-._~!$&'()*+,=:@]+"
_PLAIN_TARGET = re.compile(rf"(?=/)(?:{_SEGMENT})*/?(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]]*)?", re.ASCII)
_TARGET = re.compile(
    r"(/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/\\]|%[0-9A-Fa-f]{2})*)"
    r"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII,
)
_ODD_SEGMENT = re.compile(r"//|/\.\.?(?:/|\Z)|[;\\]")
# Escapes in a path that some server would read as structure, or that hide what needs no hiding:
# / \ ; and the unreserved characters (RFC 3986, section 2.3).
_ODD_ESCAPE = re.compile(
    r"%(?:2[D-F]|3[0-9B]|4[1-9A-F]|5[0-9ACF]|6[1-9A-F]|7[0-9AE])", re.ASCII | re.IGNORECASE
)
# Control characters, and a percent sign: what is decoded twice somewhere must not mean something else there.
_BAD_ESCAPE = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff]|25)", re.ASCII)


def carries_federation(names: Iterable[str]) -> bool:
    """Whether one of these header names makes it a federation request, never falling through to cookies."""
    return any(name.lower() in FEDERATION_HEADERS for name in names)


def read_headers(request: Request, policy: Policy) -> dict[str, str]:
    """The headers that matter, by lower-case name. Refused when doubled, too long, or of unclear framing."""
    if len(request.headers) > policy.max_headers:
        raise Refused("headers_too_large")
    found: dict[str, str] = {}
    longest = policy.max_header
    names = NAMES
    for name, value in request.headers:
        if len(value) > longest:
            raise Refused("headers_too_large")
        kept = names[name]
        if kept is not None:
            if kept in found and kept != FORWARDED:
                raise Refused("bad_framing" if kept in _FRAMING else "duplicate_header")
            found[kept] = value
    if "transfer-encoding" in found and "content-length" in found:
        raise Refused("bad_framing")
    return found


def check_shape(request: Request, headers: dict[str, str], policy: Policy) -> None:
    """Method, target, size and encoding of the body."""
    if request.method not in METHODS:
        raise Refused("bad_method")
    fault = FAULTS[request.target]
    if fault is not None:
        raise Refused(fault)
    if len(request.body) > policy.max_body:
        raise Refused("body_too_large")
    if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
        raise Refused("content_encoding_not_allowed")


def target_fault(target: str) -> str | None:
    """The code to refuse this target with, or None. The target is judged as sent; nothing is decoded."""
    if len(target) > MAX_TARGET:
        return "bad_target"
    if _PLAIN_TARGET.fullmatch(target):
        return None
    match = _TARGET.fullmatch(target)
    if match is None or "%00" in target:
        return "bad_target"
    path = match[1]
    if _BAD_ESCAPE.search(path):
        return "bad_target"
    return "non_canonical_target" if _ODD_SEGMENT.search(path) or _ODD_ESCAPE.search(path) else None


class _Faults(dict[str, "str | None"]):
    """`target_fault` of targets met; bounded."""

    def __missing__(self, target: str) -> str | None:
        fault = target_fault(target)
        if len(self) >= 512:
            self.clear()
        if len(target) <= 1024:
            self[target] = fault
        return fault


FAULTS = _Faults()


@lru_cache(maxsize=512)
def is_visible(value: str) -> bool:
    """Whether a header of ours may hold this; for values that come again and again."""
    return VISIBLE.fullmatch(value) is not None

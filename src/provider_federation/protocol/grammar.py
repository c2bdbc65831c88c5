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
_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})
_KEPT = FEDERATION_HEADERS | _FRAMING | _CONTENT | _FORWARDED

VISIBLE = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
"""What a header of ours may hold: printable ASCII, and no space around it."""

# Letters, digits and marks that RFC 3986 allows in a path segment, but no ';'; escapes take the longer way.
_SEGMENT = r"/(?!\.\.?(?:[/?]|\Z))[A-Za-z0-9\-._~!$&'()*+,=:@]+"
_AUTHORITY = re.compile(r"((?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\]))(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS = frozenset({"80", "443"})
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
    for name, value in request.headers:
        if len(value) > longest or len(name) > longest:
            raise Refused("headers_too_large")
        lowered = name.lower()
        if lowered in _KEPT:
            if lowered in found and lowered not in _FORWARDED:
                raise Refused("bad_framing" if lowered in _FRAMING else "duplicate_header")
            if type(value) is not str:
                raise Refused("malformed_header")
            found[lowered] = value
    if "content-length" in found and "transfer-encoding" in found:
        raise Refused("bad_framing")
    return found


def check_shape(request: Request, headers: dict[str, str], policy: Policy) -> None:
    """Method, target, size and encoding of the body."""
    if request.method not in METHODS:
        raise Refused("bad_method")
    fault = target_fault(request.target)
    if fault is not None:
        raise Refused(fault)
    if len(request.body) > policy.max_body:
        raise Refused("body_too_large")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("content_encoding_not_allowed")


@lru_cache(maxsize=512)
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


@lru_cache(maxsize=512)
def normal_authority(authority: str) -> str:
    """`@authority` (RFC 9421, section 2.2.3): lower case, without a default port. Refused when it is none.

    A request does not know its scheme, so that 80 and 443 both count as the default.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise Refused("bad_framing")
    host, port = match[1].lower(), match[2]
    return host if port is None or port in _DEFAULT_PORTS else f"{host}:{port}"

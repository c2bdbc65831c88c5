"""Why a request was not accepted: one exception, a closed list of codes, a status and a sentence for each."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provider_federation.protocol.values import Key

_CODES = {
    # The input is malformed.
    "duplicate_header": (400, "A federation header was sent more than once."),
    "malformed_header": (400, "A federation header holds characters that are not allowed there."),
    "ambiguous_auth": (400, "Send exactly one signature, by one scheme."),
    "malformed_signature_input": (400, "Signature-Input cannot be read."),
    "malformed_digest": (400, "Content-Digest cannot be read."),
    "non_canonical_target": (400, "The path has dot segments, empty segments, ';', '\\' or odd escapes."),
    "bad_target": (400, "The request target must be an absolute path, with a query if there is one."),
    "bad_method": (400, "The method must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT."),
    "bad_scope": (400, "The scope must be read or provider."),
    "bad_framing": (400, "Send one Host header, and one way of telling where the body ends."),
    # The caller is not proven.
    "missing_headers": (401, "A signed request needs all of its federation headers."),
    "unknown_key": (401, "This key is not accepted here."),
    "revoked_key": (401, "This key is not accepted here."),
    "key_not_yet_valid": (401, "This key is not accepted here."),
    "expired_key": (401, "This key is not accepted here."),
    "algorithm_not_allowed": (401, "This key may not be used with that algorithm here."),
    "downgrade_refused": (401, "The legacy scheme is no longer accepted here; sign with the modern one."),
    "bad_timestamp": (401, "The timestamp must look like 2025-09-25T18:00:00.000Z."),
    "timestamp_out_of_window": (401, "The timestamp is too far from this server's clock."),
    "bad_nonce": (401, "The nonce must hold at least 128 random bits."),
    "bad_expires": (401, "expires must be after created and at most 300 seconds later."),
    "insufficient_coverage": (401, "The signature does not cover everything that it must."),
    "malformed_signature": (401, "The signature cannot be read."),
    "bad_signature": (401, "The signature does not fit this request."),
    "digest_mismatch": (401, "The body is not the one that was signed."),
    "digest_algorithm_not_allowed": (401, "Content-Digest must be sha-256 or sha-512."),
    "audience_mismatch": (401, "This request was meant for another instance."),
    "replayed": (401, "This request was already used; sign a new one."),
    # The caller is proven and may not.
    "scope_not_allowed": (403, "This key does not have that scope."),
    "org_mismatch": (403, "This instance serves another organisation."),
    "policy_refused": (403, "The owner of this instance does not allow that."),
    "frozen": (403, "The owner of this instance has frozen federation."),
    "enrolment_closed": (403, "No portal is expected here; ask the owner of this instance for a code."),
    # The rest.
    "body_too_large": (413, "The body is larger than this server takes."),
    "content_encoding_not_allowed": (415, "Send the body without a content encoding."),
    "rate_limited": (429, "Too many requests were refused; wait a minute."),
    "headers_too_large": (431, "The request has too many headers, or too long ones."),
    "internal_error": (500, "The request could not be checked."),
    "replay_store_unavailable": (503, "The memory of used requests is not available; try again."),
}

STATUS_BY_CODE = MappingProxyType({code: status for code, (status, _) in _CODES.items()})

_ONE_ANSWER = frozenset({"unknown_key", "revoked_key", "key_not_yet_valid", "expired_key"})


class CannotSign(ValueError):
    """The key's algorithm cannot sign, or what should be signed cannot stand in a header."""


class Refused(Exception):
    """The request is not accepted.

    `code` is exact, for the audit log; `public_code` is what the caller may learn (`unknown_key` stands for
    revoked, expired and not yet valid keys too). `status` is the HTTP status, `message` one sentence to send.
    `key_id` is the key that the request named, proven or not, when it got that far. `signer` is the key whose
    good v2 signature the request carried all the same: such a refusal is answered signed (contract, 2.3).
    """

    def __init__(self, code: str, *, key_id: str | None = None, signer: Key | None = None) -> None:
        status, message = _CODES[code]
        super().__init__(code)
        self.code = code
        self.status = status
        self.message = message
        self.public_code = "unknown_key" if code in _ONE_ANSWER else code
        self.key_id = key_id
        self.signer = signer

    def __reduce__(self) -> tuple[Callable[[str, str | None], Refused], tuple[str, str | None]]:
        """Into another process, or a queue, it goes without `signer`: that has a secret."""
        return _made_again, (self.code, self.key_id)

    def body(self) -> dict[str, object]:
        """The JSON body of the answer (contract, section 2.4)."""
        return {"ok": False, "error": self.message, "reason": self.public_code}


def _made_again(code: str, key_id: str | None) -> Refused:
    return Refused(code, key_id=key_id)

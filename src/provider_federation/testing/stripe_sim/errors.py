"""Refusals in Stripe's shape: `{"error": {"type", "code", "message", "param", …}}`.

Source: https://docs.stripe.com/api/errors
"""

from __future__ import annotations

from typing import Any


class StripeError(Exception):
    """An answer other than success, with Stripe's error type, code and the offending parameter.

    `commits` says whether what the request did before it failed stays (a declined card leaves its attempt
    behind);
    `stored` whether the idempotency key remembers this answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        commits: bool = False,
        stored: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.commits = commits
        self.stored = stored
        self.error = {"message": message, "type": kind, **extra}
        if code:
            self.error |= {
                "code": code,
                "doc_url": f"https://docs.stripe.com/error-codes#{code.replace('_', '-')}",
            }
        if param:
            self.error["param"] = param

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"error": self.error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    """A 400 `invalid_request_error`."""
    return StripeError(400, "invalid_request_error", message, code=code, param=param)


def missing(noun: str, identity: str, param: str = "id") -> StripeError:
    """A 404 `resource_missing`: the id in the path names nothing."""
    return StripeError(
        404, "invalid_request_error", f"No such {noun}: '{identity}'", code="resource_missing", param=param
    )


def unknown_reference(noun: str, identity: str, param: str) -> StripeError:
    """A 400 `resource_missing`: a parameter names something that does not exist."""
    return invalid(f"No such {noun}: '{identity}'", param, "resource_missing")


def card_declined(message: str, decline_code: str, **extra: Any) -> StripeError:
    """A 402 `card_error`; the attempt stays in the books."""
    return StripeError(
        402,
        "card_error",
        message,
        code="card_declined",
        commits=True,
        stored=True,
        decline_code=decline_code,
        **extra,
    )

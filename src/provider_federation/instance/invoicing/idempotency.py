"""Idempotency-Key on writes: the same key with the same request gets the first answer again, for a week.

An answer is kept when the write succeeded; a refused request changed nothing and may be sent again with its
key. A duplicate that arrives while the first still runs waits for it. Two kinds of write:
`transactional=True` commits its effect and the record together; without it (calls to Stripe) the effect must
be safe to repeat by itself, and the record follows it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from provider_federation.instance.invoicing.locks import exclusive
from provider_federation.instance.invoicing.models import IdempotencyRecord
from provider_federation.instance.wire import Answer
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem

KEPT = timedelta(days=7)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT_SECONDS = 25.0


def run_once(
    request: HttpRequest, caller: str, work: Callable[[], Answer], *, transactional: bool
) -> HttpResponse:
    """Run `work` and answer it, or answer what it answered the first time (marked `Idempotent-Replayed:
    true`).

    Problems: 400 `bad_idempotency_key`, 422 `idempotency_mismatch`, 409 `idempotency_in_progress`.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with transaction.atomic() if transactional else nullcontext():
            return _response(200, _body(work()))
    if _KEY.fullmatch(key) is None:
        raise Problem(400, "bad_idempotency_key", "An Idempotency-Key is 1 to 255 visible ASCII characters.")
    busy = Problem(
        409, "idempotency_in_progress", "The first request with this Idempotency-Key still runs; ask again."
    )
    with exclusive("request", f"{caller}:{key}", wait=_WAIT_SECONDS, busy=busy):
        return _replay(caller, key, request) or _run_and_keep(
            caller, key, request, work, transactional=transactional
        )


def forget_old_records() -> int:
    """Delete answers older than a week; returns how many."""
    deleted, _ = IdempotencyRecord.objects.filter(created_at__lt=clock.now() - KEPT).delete()
    return deleted


def _replay(caller: str, key: str, request: HttpRequest) -> HttpResponse | None:
    record = IdempotencyRecord.objects.filter(
        caller=caller, key=key, created_at__gte=clock.now() - KEPT
    ).first()
    if record is None:
        return None
    if record.fingerprint != _fingerprint(request):
        raise Problem(
            422, "idempotency_mismatch", "This Idempotency-Key was used for another request; make a new one."
        )
    response = _response(record.status, record.body)
    response["Idempotent-Replayed"] = "true"
    return response


def _run_and_keep(
    caller: str, key: str, request: HttpRequest, work: Callable[[], Answer], *, transactional: bool
) -> HttpResponse:
    with transaction.atomic() if transactional else nullcontext():
        body = _body(work())
        with transaction.atomic():
            forget_old_records()
            IdempotencyRecord.objects.create(
                caller=caller,
                key=key,
                fingerprint=_fingerprint(request),
                status=200,
                body=body,
                created_at=clock.now(),
            )
    return _response(200, body)


def _fingerprint(request: HttpRequest) -> str:
    """Method, path, query and the body's meaning: a client library may order or space its JSON anew."""
    try:
        body = json.dumps(json.loads(request.body or b"null"), sort_keys=True)
    except ValueError:
        body = request.body.hex()
    parts = (request.method, request.path_info, request.META.get("QUERY_STRING", ""), body)
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()


def _body(answer: Answer) -> str:
    return answer.model_dump_json(by_alias=True)


def _response(status: int, body: str) -> HttpResponse:
    return HttpResponse(body, status=status, content_type="application/json")

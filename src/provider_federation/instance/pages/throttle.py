"""Slowing down whoever guesses passwords: by account from one address, by account, and by address.

A try is counted before the password is looked at, so that many guesses at once cannot slip under the limit.
Unknown emails are counted like known ones, so that the limit tells nobody who has an account.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest

from provider_federation.instance.pages.models import SignInTries
from provider_federation.kit import clock

WINDOW = timedelta(minutes=15)
_MOST = {"account-from-address": 5, "account": 50, "address": 100}
_KEPT = timedelta(days=1)


def count_try(email: str, address: str) -> int:
    """Count one try. 0 when it may go on, otherwise how many seconds to wait."""
    now = clock.now()
    with transaction.atomic():
        return max(_count(subject, most, now) for subject, most in _subjects(email, address).items())


def forget_tries(email: str, address: str) -> None:
    """After a good sign-in: the account's count from this address starts anew, and this try was no failure."""
    own, *shared = _subjects(email, address)
    # Not deleted: a try under way would miss its row. One row at a time: two could wait for `count_try` in a circle.
    SignInTries.objects.filter(subject=own).update(tries=0)
    for subject in shared:
        SignInTries.objects.filter(subject=subject, tries__gt=0).update(tries=F("tries") - 1)
    SignInTries.objects.filter(since__lt=clock.now() - _KEPT).delete()


def address_of(request: HttpRequest) -> str:
    """Who asks, as far as it can be known: what the outermost trusted proxy saw, else who is connected. Whatever
    stands further left in the header was written by the caller.
    """
    count = settings.TRUSTED_PROXIES
    seen = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    if count and len(seen) >= count and seen[-count]:
        return seen[-count]
    return str(request.META.get("REMOTE_ADDR", ""))


def too_many(seconds: int) -> str:
    """What the person is told."""
    return f"Too many tries. Try again in {-(-seconds // 60)} min."


def _subjects(email: str, address: str) -> dict[str, int]:
    email = email.strip().lower()
    named = {"account-from-address": f"{email}\n{address}", "account": email, "address": address}
    return {_digest(kind, named[kind]): most for kind, most in _MOST.items()}


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\n{value}".encode()).hexdigest()


def _count(subject: str, most: int, now: datetime) -> int:
    row, _made = SignInTries.objects.select_for_update().get_or_create(
        subject=subject, defaults={"since": now}
    )
    if now - row.since >= WINDOW:
        row.tries, row.since = 0, now
    row.tries += 1
    row.save(update_fields=["tries", "since"])
    return 0 if row.tries <= most else max(1, int((row.since + WINDOW - now).total_seconds()))

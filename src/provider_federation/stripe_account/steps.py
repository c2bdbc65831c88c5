"""One step towards Stripe that happens once: journal first, then the call, then the journal again.

The rules (docs/money.md, "Placing an invoice"): - a step that was begun and not finished is looked up in
Stripe by our metadata before anything is created; - the same idempotency key is used while it is younger than
23 hours, so that two workers, or one that comes back after a crash, get one object; - a new key is taken only
when Stripe has forgotten the old one, or answers it for ever with a recorded error. Keys are numbered, not
random: two workers that both move on move on to the same key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from provider_federation.stripe_account.errors import StripeFailed
from provider_federation.stripe_account.order import Journal, StepRecord

KEY_LIFE = timedelta(hours=23)
"""Stripe forgets an idempotency key after 24 hours; an hour is kept for clocks and slow calls."""
_MARGIN = timedelta(days=1)  # our clock and Stripe's may differ; a lookup that begins too early costs nothing

Now = Callable[[], datetime]


@dataclass
class Patience:
    """How long one run tries: calls per step, seconds in all, the first pause (doubled each time)."""

    tries: int = 4
    seconds: float = 60.0
    pause: float = 0.25
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _began: float | None = field(default=None, init=False)

    def wait(self, attempt: int, *, told: float | None = None) -> bool:
        """Pause after the failed `attempt` (from 1); False when it is time to give up and leave it to the
        job's retry. `told`: Stripe said for how many seconds; then only the time counts, not the tries.
        """
        self._began = self.clock() if self._began is None else self._began
        pause = max(told or 0.0, self.pause * 2 ** min(attempt - 1, 5))
        if (told is None and attempt >= self.tries) or self.clock() - self._began + pause > self.seconds:
            return False
        self.sleep(pause)
        return True


@dataclass(frozen=True)
class Step:
    """`find(since)` answers the id of what is already there, or None; `make(idempotency_key)` calls Stripe
    and answers the id.

    `look_first`: it may be there although our journal knows nothing of it (restored from a backup, say).
    """

    journal_key: str
    name: str
    find: Callable[[datetime | None], str | None]
    make: Callable[[str], str]
    look_first: bool = False


@dataclass(frozen=True)
class Done:
    """The id a step led to; `made` when this run created it, so that nothing older can hang on it.

    `undisturbed`: made at the first attempt that anybody made, so that the answer is no recorded one.
    """

    result_id: str
    made: bool
    undisturbed: bool = False


def run_step(
    step: Step,
    journal: Journal,
    now: Now,
    patience: Patience,
    *,
    known: Mapping[str, StepRecord] | None = None,
) -> Done:
    """Do it, unless it is done. Raises StripeFailed when it is refused, or when patience is over
    (`retryable`). `known`: the journal of this key as it was loaded a moment ago.
    """
    renew = False
    attempt = 0
    while True:
        rows = journal.load(step.journal_key) if known is None or attempt else known
        record = rows.get(step.name)
        if record is not None and record.result_id is not None:
            return Done(record.result_id, made=False)
        attempt += 1
        try:
            done = _attempt(step, record, journal, now, renew=renew)
        except StripeFailed as failure:
            renew = failure.replayed or failure.code == "idempotency_mismatch"
            if not (failure.retryable or renew) or not patience.wait(attempt, told=failure.retry_after):
                raise
            continue
        kept = journal.finish(step.journal_key, step.name, done.result_id, now())
        return done if kept == done.result_id else Done(kept, made=False)  # another worker was first


def _attempt(step: Step, record: StepRecord | None, journal: Journal, now: Now, *, renew: bool) -> Done:
    found = _look(step, record)
    key = _key(step, record, now(), renew=renew)
    if record is None or record.idempotency_key != key:
        journal.begin(step.journal_key, step.name, key, now())
    if found is not None:
        return Done(found, made=False)
    return Done(step.make(key), made=True, undisturbed=record is None)


def _look(step: Step, record: StepRecord | None) -> str | None:
    if record is None and not step.look_first:
        return None
    try:
        return step.find(_since(record))
    except StripeFailed as failure:
        # However final it is that we cannot look: what was begun before may be there all the same.
        failure.outcome_unknown |= record is not None
        raise


def first_key(step: Step) -> str:
    """The idempotency key of a step that nobody has begun."""
    return f"pf/{step.journal_key}/{step.name}/1"


def take_first(step: Step) -> Done:
    """The step's first attempt, whose key was committed just now by us and before by nobody."""
    found = step.find(None) if step.look_first else None
    if found is not None:
        return Done(found, made=False)
    return Done(step.make(first_key(step)), made=True, undisturbed=True)


def _key(step: Step, record: StepRecord | None, at: datetime, *, renew: bool) -> str:
    number = 1 if record is None else number_of(record)
    if record is not None and (renew or abs(at - record.at) >= KEY_LIFE):
        number += 1
    return f"pf/{step.journal_key}/{step.name}/{number}"


def number_of(record: StepRecord) -> int:
    """How many idempotency keys this step has used so far."""
    number = record.idempotency_key.rpartition("/")[2]
    return int(number) if number.isascii() and number.isdigit() else 1


def _since(record: StepRecord | None) -> datetime | None:
    """Nothing of this step can be older than its first begin; None when we do not know that."""
    if record is None:
        return None
    first = record.first_at or (record.at if number_of(record) == 1 else None)
    return None if first is None else first - _MARGIN

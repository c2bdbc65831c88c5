"""When an unpaid invoice is reminded of: days from its due date, each with what happens then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

REMIND, ESCALATE = "remind", "escalate"
_STEP = re.compile(r"([+-]?[0-9]{1,3})(?::(remind|escalate))?")


@dataclass(frozen=True)
class ScheduledStep:
    """`days` after the due date (before it when negative). `name` is what its row is called."""

    days: int
    action: str

    @property
    def name(self) -> str:
        return f"day {self.days}"

    def due_at(self, due: datetime) -> datetime:
        """The instant from which it may happen."""
        return due + timedelta(days=self.days)


def parse_schedule(text: str) -> tuple[ScheduledStep, ...]:
    """`-3,1,7,14,21:escalate`: days with an optional action, ascending. ValueError for anything else; an
    empty text is no schedule.
    """
    steps = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        found = _STEP.fullmatch(part)
        if found is None:
            raise ValueError(f"{part[:40]!r} is not a number of days, or days and an action")
        steps.append(ScheduledStep(int(found[1]), found[2] or REMIND))
    days = [step.days for step in steps]
    if days != sorted(set(days)):
        raise ValueError("the days must ascend")
    return tuple(steps)

"""Days and instants in requests: written out, never guessed from a number (pydantic takes `0` for 1970)."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,20}(Z|[+-][0-9]{2}:[0-9]{2})")


def _written(pattern: re.Pattern[str], sentence: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, date) or (isinstance(value, str) and pattern.fullmatch(value)):
            return value
        raise ValueError(sentence)

    return BeforeValidator(check)


Day = Annotated[date, _written(_DAY, "give a day as YYYY-MM-DD")]
"""A calendar day, `2026-02-03`."""

Moment = Annotated[AwareDatetime, _written(_MOMENT, "give an instant such as 2026-02-03T04:05:06Z")]
"""An instant with its offset, `2026-02-03T04:05:06Z`."""

"""What reading any feed of an instance has in common: a page, or why there is none, and whether to start over."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from provider_federation.kit.text import clean_text
from provider_federation.portal.fleet.schemas import FeedPage
from provider_federation.portal.shim import Answered, BadAnswer, Outcome, RefusedThere

Page = TypeVar("Page", bound=FeedPage)


def read_page(outcome: Outcome, shape: type[Page], cursor: str) -> Page | Outcome:
    """The page inside the answer to a call with `cursor`, or the outcome that says why there is none."""
    if not isinstance(outcome, Answered):
        return outcome
    try:
        page = shape.model_validate(outcome.data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return BadAnswer("unexpected_shape", clean_text(f"{where}: {first['msg']}", 200), outcome.status)
    if page.has_more and page.next_cursor == cursor:
        return BadAnswer("page_cap", "the feed's cursor does not move")
    return page


def wants_restart(cursor: str, epoch: str, outcome: Outcome, page: FeedPage | Outcome) -> bool:
    """The instance's database is another one than the cursor came from: it was made anew, or restored from
    a backup.
    """
    if isinstance(page, FeedPage):
        return bool(epoch) and page.epoch != epoch
    unknown = isinstance(outcome, RefusedThere) and outcome.status == 409 and outcome.code == "cursor_unknown"
    return unknown and bool(cursor)

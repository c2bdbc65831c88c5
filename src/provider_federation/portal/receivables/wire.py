"""A client's disputes as its instance's feed carries them (docs/architecture.md, "The wire")."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from provider_federation.portal.fleet.schemas import FeedPage, FromInstance, Instant, RemoteId, cleaned

PAGE = 100
HIGHEST_VERSION = 9_007_199_254_740_990
"""What an instance may hold, with room for ours above it: JSON's whole numbers end there."""
_NO_WORDS = "(no words were given)"


def _spoken(claim: str) -> str:
    return " ".join(claim.split()) or _NO_WORDS


class FiledDispute(FromInstance):
    """What a client filed. There is no amount in it: nothing that an instance sends sets one."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    lead_id: RemoteId
    lead_public_id: Annotated[str, cleaned(128)] = ""
    claim: Annotated[str, cleaned(1000), AfterValidator(_spoken)]
    evidence: Annotated[str, cleaned(128)] = ""
    filed_at: Instant
    version: Annotated[int, Field(strict=True, ge=0, le=HIGHEST_VERSION)]


class DisputeChange(FromInstance):
    """One entry of the feed: it was filed, or our word on it was taken."""

    dispute: FiledDispute


class DisputesPage(FeedPage):
    """`GET /api/federation/disputes`: entries in order."""

    items: Annotated[list[DisputeChange], Field(max_length=PAGE)]

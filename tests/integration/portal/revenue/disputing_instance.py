"""An instance whose owner disputes leads: its feed, and the portal's word as the contract has it taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.integration.portal.revenue.usage_instance import UsageInstance

PATH = "/api/federation/disputes"


@dataclass
class DisputingInstance(UsageInstance):
    """`disputes` by id, `entries` of the feed in order; `feed_faults` and `word_faults` are the next answers."""

    epoch: str = "e1"
    disputes: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    replies: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    feed_faults: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    word_faults: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    feed_page: int = 2
    asked: int = 0

    def files(self, name: str, lead: str, claim: str = "They never called.", **more: Any) -> None:
        self.disputes[name] = {
            "id": name,
            "leadId": lead,
            "leadPublicId": f"public {lead}",
            "convertedAt": "2026-02-01T01:00:00Z",
            "evidence": "sha256:" + "0" * 64,
            "claim": claim,
            "filedAt": "2026-03-09T08:00:00.000Z",
            "state": "filed",
            "version": 0,
            **more,
        }
        self.entries.append(name)

    def holds(self, name: str) -> tuple[str, int]:
        return self.disputes[name]["state"], self.disputes[name]["version"]

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(target)
        if parts.path != PATH:
            return super().answer(target)
        self.asked += 1
        if self.feed_faults:
            return self.feed_faults.pop(0)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        epoch, _, at = query.get("cursor", f"{self.epoch}:0").rpartition(":")
        if epoch != self.epoch or int(at) > len(self.entries):
            return 409, {"ok": False, "error": "another history", "reason": "cursor_unknown"}
        end = min(int(at) + min(self.feed_page, int(query["limit"])), len(self.entries))
        seqs = range(int(at) + 1, end + 1)
        items = [
            {"seq": seq, "at": "2026-03-09T08:00:00Z", "dispute": self.disputes[self.entries[seq - 1]]}
            for seq in seqs
        ]
        more = end < len(self.entries)
        return 200, {
            "ok": True, "epoch": self.epoch, "items": items, "nextCursor": f"{self.epoch}:{end}", "hasMore": more
        }  # fmt: skip

    def take(self, target: str, body: Any, key: str) -> tuple[int, dict[str, Any]]:
        if self.word_faults:
            return self.word_faults.pop(0)
        if key not in self.replies:
            answer = self._take(target.removeprefix(f"{PATH}/"), body)
            if answer[0] != 200:
                return answer
            self.replies[key] = answer
        return self.replies[key]

    def _take(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.told.append({"id": name, **body})
        row = self.disputes.get(name)
        if row is None:
            return 404, {"ok": False, "error": "no such dispute", "reason": "not_found"}
        if body["version"] == row["version"] and body["state"] != row["state"]:
            return 409, {"ok": False, "error": "it said something else", "reason": "dispute_conflict"}
        applied = body["version"] > row["version"]
        if applied:
            row.update(body)
            self.entries.append(name)
        return 200, {
            "ok": True,
            "applied": applied,
            "id": name,
            "version": row["version"],
            "state": row["state"],
        }

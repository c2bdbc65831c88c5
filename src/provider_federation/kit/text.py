"""Words of other people, made fit to be stored and shown."""

from __future__ import annotations

# Marks that turn the order of what is read: a sentence could be made to show something else than it says.
_TURNING = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def clean_text(text: str, longest: int) -> str:
    """Control characters and marks of direction become spaces, what is too long is cut. Never raises."""
    plain = "".join(" " if _hidden(one) else one for one in text)
    plain = plain.encode("utf-8", "replace").decode()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _hidden(one: str) -> bool:
    return ord(one) < 32 or 127 <= ord(one) < 160 or one in _TURNING

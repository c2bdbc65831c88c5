"""HSTS behind a proxy that speaks HTTP to the instance."""

from __future__ import annotations

from typing import Any

from django.test import Client


def test_it_is_sent_where_the_address_is_https(settings: Any, db: None) -> None:
    client = Client(headers={"host": "127.0.0.1"})
    assert "Strict-Transport-Security" not in client.get("/health/live").headers
    settings.SECURE_HSTS_SECONDS = 31_536_000
    assert client.get("/health/live").headers["Strict-Transport-Security"] == "max-age=31536000"

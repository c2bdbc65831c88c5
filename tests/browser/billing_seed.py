"""The operators, an API token and the clients of tests/browser/test_cancel_billing_browser.py, in a portal's database.

Run as a program with `{client: address}` as JSON on its input; prints the token.
"""

from __future__ import annotations

import json
import secrets
import sys

import django


def fill(clients: dict[str, str]) -> str:
    from tests.browser.portal_seed import people

    from provider_federation.kit import clock
    from provider_federation.portal.directory.keys import NewKey, seal_key
    from provider_federation.portal.directory.models import Instance
    from provider_federation.portal.operators.services import create_token

    people()
    now = clock.now()
    for name, address in clients.items():
        instance = Instance.objects.create(
            name=name, title=f"{name.title()} Ltd", org_id=f"org_{name}", base_url=address, currency="usd",
            billing_email=f"{name}@example.com", created_at=now, updated_at=now,
        )  # fmt: skip
        seal_key(instance, NewKey(f"key-{name}", secrets.token_urlsafe(32))).save()
    _, secret = create_token(name="a program", role="billing", actor="operator:test")
    return secret


if __name__ == "__main__":
    django.setup()
    print(fill(json.load(sys.stdin)))

"""A portal with nothing in it yet. In a file of its own: the other pages' tests share filled tables."""

from __future__ import annotations

import pytest
from django.urls import get_resolver
from tests.integration.portal.pages.addresses import READ_PAGES, path_of
from tests.integration.portal.pages.test_portal_pages import signed_in

from provider_federation.portal.operators.permissions import PERMISSIONS

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("role", sorted(PERMISSIONS))
def test_an_empty_portal_says_what_to_do(role):
    client = signed_in(role)
    for name, permission in READ_PAGES.items():
        if permission in PERMISSIONS[role] and not get_resolver().reverse_dict[name][0][0][1]:
            assert client.get(path_of(name)).status_code == 200, name
    assert "Add the first client" in client.get("/").content.decode() or role != "admin"

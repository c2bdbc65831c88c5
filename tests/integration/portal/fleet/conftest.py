from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.integration.portal.fleet.fakes import FakeInstance

from provider_federation.kit import clock
from provider_federation.portal.directory.keys import NewKey, seal_key
from provider_federation.portal.directory.models import Instance

Grow = Callable[..., list[tuple[FakeInstance, Instance]]]


def enrol(fake: FakeInstance, **more: object) -> Instance:
    """A row of the directory for a fake, without the check that adding one by the front door makes."""
    now = clock.now()
    instance = Instance.objects.create(
        name=fake.name,
        title=fake.name.title(),
        org_id=f"org_{fake.name}",
        base_url=fake.base_url,
        created_at=now,
        updated_at=now,
        **more,
    )
    seal_key(instance, NewKey(f"key-{fake.name}", fake.secret)).save()
    return instance


@pytest.fixture
def fleet(db: None, settings: object) -> Iterator[Grow]:
    """`fleet("ada", "bob")` starts instances and enrols them."""
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    grown: list[FakeInstance] = []

    def grow(*names: str, **more: object) -> list[tuple[FakeInstance, Instance]]:
        new = [FakeInstance(name, **more) for name in names]
        grown.extend(new)
        return [(fake, enrol(fake)) for fake in new]

    yield grow
    for fake in grown:
        fake.stop()

"""From a worker's thread into the shim's event loop and back: the database is only ever touched in the
worker's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import ParamSpec, TypeVar

from asgiref.sync import async_to_sync, sync_to_async

from provider_federation.portal.shim import Shim

T = TypeVar("T")
P = ParamSpec("P")


def run_each(items: Iterable[T], work: Callable[[Shim, T], Awaitable[None]]) -> None:
    """Do `work` for all items at once over one shim. All of them come to their end; then the first fault
    surfaces.
    """
    everyone = list(items)

    async def all_of_them() -> list[BaseException | None]:
        async with Shim() as shim:
            return await asyncio.gather(*(work(shim, item) for item in everyone), return_exceptions=True)

    # A loop of its own, not the worker's: a thousand answers to parse must not delay the worker's heartbeat.
    for fault in async_to_sync(all_of_them, force_new_loop=True)():
        if fault is not None:
            raise fault


def in_database(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """The same function, awaitable, run in the thread that called `run_each`."""
    return sync_to_async(function, thread_sensitive=True)

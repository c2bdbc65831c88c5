"""`provider-federation stripe-sim`: the Stripe double, on loopback."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provider_federation.kit.env import ConfigInvalid, Environment

if TYPE_CHECKING:
    from provider_federation.testing.stripe_sim import Hook

HOOKS_VARIABLE = "STRIPE_SIM_HOOKS"


def stripe_sim(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 12111,
    data: Annotated[
        Path | None, typer.Option(help="SQLite file to keep the state in; without it the state is in memory.")
    ] = None,
    hook: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "KEY=URL=SECRET: send the events of KEY's account to URL (loopback), signed with SECRET. "
                "Repeatable."
            )
        ),
    ] = None,
) -> None:
    """Run the Stripe simulator: a double of Stripe's API for tests and the demo."""
    from provider_federation.kit.logs import configure_logs
    from provider_federation.testing.stripe_sim import serve

    configure_logs(service="stripe-sim", development=Environment().development, level=logging.WARNING)
    texts = [*(hook or []), *os.environ.get(HOOKS_VARIABLE, "").split()]
    hooks = [_hook(text) for text in texts]
    try:
        serve(
            port=port,
            data=data,
            hooks=hooks,
            announce=lambda url: print(f"Stripe simulator at {url}", flush=True),
        )
    except OSError as error:
        sys.exit(
            f"Port {port} cannot be used: {error.strerror}. Choose another with --port, or 0 for a free one."
        )


def _hook(text: str) -> Hook:
    from provider_federation.testing.stripe_sim import Hook

    key, _, rest = text.partition("=")
    url, _, secret = rest.rpartition("=")
    if not key.startswith("sk_test_") or not url.startswith("http") or not secret:
        raise ConfigInvalid("--hook", "must be KEY=URL=SECRET, with a key that starts with sk_test_")
    return Hook(key, url, secret)

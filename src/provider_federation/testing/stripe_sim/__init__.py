"""A stateful double of Stripe's API over HTTP, for tests and the demo. It is not Stripe, and says so.

`serve(port=…)` runs it in this process until stopped; `start_in_thread(…)` gives a test its address and a
way to stop it. What it does and does not do: docs/howto/stripe-simulator.md.
"""

from provider_federation.testing.stripe_sim.server import Running, serve, start_in_thread
from provider_federation.testing.stripe_sim.simulator import Hook
from provider_federation.testing.stripe_sim.store import account_id

__all__ = ["Hook", "Running", "account_id", "serve", "start_in_thread"]

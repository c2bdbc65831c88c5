"""What the demo runs: names, ports, keys, plans and the environment of each process.

The plan is made once per data folder and kept there (`demo.json`, readable by its owner only), so that a
second run finds
the same addresses, passwords and Stripe accounts.
"""

from __future__ import annotations

import json
import secrets
import shutil
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from provider_federation.demo.processes import free_ports
from provider_federation.protocol import Key
from provider_federation.protocol.pairing import new_seed, public_text

USUAL_PORT = 8400
_FILE = "demo.json"
_FIRST_THREE = (
    ("bluebird", "Bluebird Solar", "v2", "PRO"),
    ("kestrel", "Kestrel Legal", "sha256", "ELITE"),
    ("marlin", "Marlin Boats", "h31", "BASE"),
)
_TRADES = (
    "Dental",
    "Roofing",
    "Fitness",
    "Insurance",
    "Gardens",
    "Motors",
    "Travel",
    "Homes",
    "Tutoring",
    "Catering",
)
_PLACES = ("Harbor", "Summit", "Willow", "Granite", "Juniper")


@dataclass(frozen=True)
class InstancePlan:
    """One client and its instance. `mode` is how it is called: v2, sha256 or h31.

    `secret` signs the calls: text for the legacy modes, for v2 an ed25519 seed in base64. Where `enrolled`, the
    portal has a key of its own by an enrolment code, and this one only reads the instance's books for the demo.
    `response_secret` is the seed that a v2 instance signs its answers with.
    """

    name: str
    title: str
    mode: str
    plan: str
    port: int
    key_id: str
    secret: str
    stripe_key: str
    password: str
    webhook_secret: str = ""
    seed: int = 0
    response_secret: str = ""
    enrolled: bool = False

    @property
    def key(self) -> Key:
        """What the demo signs with."""
        if self.mode == "v2":
            return Key(self.key_id, "ed25519", secret=b64decode(self.secret), scope=self.scope)
        return Key(self.key_id, self.mode, secret=self.secret.encode())

    @property
    def scope(self) -> str:
        return "read" if self.enrolled else "provider"

    @property
    def answers(self) -> tuple[Key, ...]:
        """What its answers are signed with."""
        if self.mode != "v2":
            return ()
        return (Key(f"{self.name}-answers", "ed25519", secret=b64decode(self.response_secret)),)

    @property
    def org(self) -> str:
        return f"org_{self.name}"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def owner(self) -> str:
        return f"owner@{self.name}.example"


@dataclass
class DemoPlan:
    """Everything that a run has to know. `folder` holds the data of every process."""

    folder: Path
    portal_port: int
    stripe_port: int
    instances: list[InstancePlan]
    provider_stripe_key: str
    operator_password: str
    months: int
    leads: int
    colleague_password: str = ""  # nobody, in data of before there was one
    token: str = ""
    webhook_secret: str = ""
    prices: dict[str, str] = field(default_factory=dict)
    prepared: bool = False

    @property
    def portal_url(self) -> str:
        return f"http://127.0.0.1:{self.portal_port}"

    @property
    def stripe_url(self) -> str:
        return f"http://127.0.0.1:{self.stripe_port}"

    @property
    def operator(self) -> str:
        return "admin@provider.example"

    @property
    def colleague(self) -> str:
        """Who approves what another planned."""
        return "billing@provider.example"

    @property
    def clock_file(self) -> Path:
        return self.folder / "clock.json"

    def save(self) -> None:
        path = self.folder / _FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps({**asdict(self), "folder": None}, indent=1))


def demo_folder(data: Path, fleet: int, *, fresh: bool) -> Path:
    """Where a demo with that many instances keeps its data: as a finished run left it, or empty.

    What an unfinished first run left is thrown away, as is everything when `fresh`. ValueError when the folder
    holds something that is no demo.
    """
    folder = data / f"{fleet}-instances"
    if folder.exists() and any(folder.iterdir()):
        kept = folder / _FILE
        if not kept.exists():
            raise ValueError(f"{folder} holds something that is no demo; choose another place with --data")
        if fresh or not json.loads(kept.read_text())["prepared"]:
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_or_make(folder: Path, *, fleet: int, port: int | None, months: int, leads: int) -> DemoPlan:
    """The kept plan of this folder, else a new one, saved at once. `port` 0 takes any free ports, None the kept
    one or the usual one. ValueError when a kept plan has another.
    """
    kept = folder / _FILE
    if kept.exists():
        return _with_port(_read(folder, json.loads(kept.read_text())), port)
    plan = _make(folder, fleet=fleet, port=USUAL_PORT if port is None else port, months=months, leads=leads)
    plan.save()
    return plan


def _read(folder: Path, value: dict[str, Any]) -> DemoPlan:
    instances = [InstancePlan(**item) for item in value.pop("instances")]
    return DemoPlan(**{**value, "folder": folder, "instances": instances})


def _ports(port: int, count: int) -> list[int]:
    return free_ports(count) if port == 0 else list(range(port, port + count))


def _with_port(plan: DemoPlan, port: int | None) -> DemoPlan:
    """The kept data knows its addresses (hosted invoice links, the directory), so its ports stay as they are."""
    if port not in {None, 0, plan.portal_port}:
        raise ValueError(
            f"this demo's data belongs to port {plan.portal_port}; use --fresh to start over at another"
        )
    return plan


def _make(folder: Path, *, fleet: int, port: int, months: int, leads: int) -> DemoPlan:
    portal_port, stripe_port, *ports = _ports(port, fleet + 2)
    return DemoPlan(
        folder=folder,
        portal_port=portal_port,
        stripe_port=stripe_port,
        instances=[_instance(index, ports[index]) for index in range(fleet)],
        provider_stripe_key=f"sk_test_provider{secrets.token_hex(8)}",
        operator_password=secrets.token_urlsafe(12),
        colleague_password=secrets.token_urlsafe(12),
        months=months,
        leads=leads,
    )


def _instance(index: int, port: int) -> InstancePlan:
    if index < len(_FIRST_THREE):
        name, title, mode, plan = _FIRST_THREE[index]
    else:
        title = f"{_PLACES[index % len(_PLACES)]} {_TRADES[index % len(_TRADES)]} {index + 1}"
        name, mode, plan = f"client-{index + 1:02}", "v2", ("BASE", "PRO", "ELITE")[index % 3]
    return InstancePlan(
        name=name,
        title=title,
        mode=mode,
        plan=plan,
        port=port,
        key_id="demo-books" if index == 0 else f"portal-{name}",
        secret=b64encode(new_seed()).decode() if mode == "v2" else secrets.token_urlsafe(32),
        stripe_key=f"sk_test_{name.replace('-', '')}{secrets.token_hex(8)}",
        password=secrets.token_urlsafe(12),
        seed=index + 1,
        response_secret=b64encode(new_seed()).decode() if mode == "v2" else "",
        enrolled=index == 0,
    )


def shared_environment(plan: DemoPlan) -> dict[str, str]:
    """For every process: development, the demo's clock, the simulator."""
    return {
        "PROVIDER_FEDERATION_ENV": "development",
        "PROVIDER_FEDERATION_CLOCK": str(plan.clock_file),
        "STRIPE_API_BASE": plan.stripe_url,
    }


def portal_environment(plan: DemoPlan, database_url: str) -> dict[str, str]:
    return {
        **shared_environment(plan),
        "DATABASE_URL": database_url,
        "PORTAL_DATA_DIR": str(plan.folder / "portal"),
        "PORTAL_BASE_URL": plan.portal_url,
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "PORTAL_SYNC_SECONDS": "2",
        "PORTAL_DISPUTES_SECONDS": "2",
        "PORTAL_WORKER_HEARTBEAT_SECONDS": "1",
        "PORTAL_WORKER_DEAD_AFTER_SECONDS": "3",
        "PORTAL_BILLING_FOUR_EYES": "1" if plan.colleague_password else "0",
        "PROVIDER_NAME": "Demo Provider Ltd",
        "PROVIDER_SIGNATURE_MODE": "v2",
        "PROVIDER_STRIPE_SECRET_KEY": plan.provider_stripe_key,
        # known once the endpoint exists; the migration before it runs without
        **({"PROVIDER_STRIPE_WEBHOOK_SECRET": plan.webhook_secret} if plan.webhook_secret else {}),
        **{f"PROVIDER_STRIPE_{code}_PRICE_ID": price for code, price in plan.prices.items()},
    }


def instance_environment(plan: DemoPlan, instance: InstancePlan) -> dict[str, str]:
    told: dict[str, str] = {}
    for key in instance.answers:
        told["PROVIDER_RESPONSE_KEY_JSON"] = json.dumps({"id": key.id, "secret": instance.response_secret})
    return {
        **shared_environment(plan),
        "DATABASE_URL": "",
        "INSTANCE_DATA_DIR": str(plan.folder / instance.name),
        "INSTANCE_NAME": instance.name,
        "INSTANCE_ORG_ID": instance.org,
        "INSTANCE_TITLE": instance.title,
        "INSTANCE_PLAN": instance.plan,
        "INSTANCE_BASE_URL": instance.base_url,
        "STRIPE_SECRET_KEY": instance.stripe_key,
        "STRIPE_WEBHOOK_SECRET": instance.webhook_secret,
        "PROVIDER_FEDERATION_ENABLED": "1",
        "PROVIDER_KEYS_JSON": json.dumps({instance.key_id: _told_of(instance)}),
        **told,
        "PROVIDER_FEDERATION_SIG_SHA256": "1" if instance.mode == "sha256" else "0",
    }


def _told_of(instance: InstancePlan) -> dict[str, str]:
    """What an instance is told of the key: of a pair, its public half only."""
    if instance.mode == "v2":
        material = {"public_key": public_text(instance.key), "algorithm": "ed25519"}
    else:
        material = {"secret": instance.secret, "algorithm": instance.mode}
    return {**material, "scope": instance.scope}

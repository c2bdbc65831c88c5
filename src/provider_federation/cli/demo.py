"""`provider-federation demo`: the whole road on this machine."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="Walk the main job without a person, compare every figure, and end."),
    ] = False,
    fleet: Annotated[int, typer.Option(min=1, max=50, help="How many instances.")] = 3,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_000,
            help="The portal's port, 8400 unless told; the others follow it. 0 takes free ones.",
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder that keeps the demo's data between runs.")] = Path(
        ".demo"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the kept data away and start over.")] = False,
    months: Annotated[
        int, typer.Option(min=1, max=24, help="Months of history to make on the first run.")
    ] = 5,
    leads: Annotated[int, typer.Option(min=6, max=5_000, help="Leads per instance.")] = 150,
) -> None:
    """Start a portal with its worker, client instances and a Stripe simulator, as separate processes.

    The first run makes months of history and takes about a minute; later ones are ready within seconds.
    Ctrl-C stops everything.
    With --once a temporary folder and free ports are used, and the exit code says whether every figure
    agreed.
    """
    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell starts background commands with SIGINT ignored
        signal.signal(ending, _interrupt)
    if once:
        with tempfile.TemporaryDirectory(prefix="pf-demo-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)  # the embedded database runs as a user of its own when we are root
            sys.exit(_once(Path(folder), fleet))
    sys.exit(_stay(data.resolve(), fleet=fleet, port=port, fresh=fresh, months=months, leads=leads))


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


def _once(folder: Path, fleet: int) -> int:
    from rich.console import Console

    from provider_federation.demo.plan import load_or_make
    from provider_federation.demo.walk import Row, Walk
    from provider_federation.demo.world import World, month_starts
    from provider_federation.kit import clock

    console = Console(highlight=False, soft_wrap=True)
    world = World(load_or_make(folder, fleet=fleet, port=0, months=2, leads=40), _say)

    def show(row: Row) -> None:
        mark = "[green]✓[/]" if row.agrees else "[bold red]✗[/]"
        seen = row.seen if row.agrees else f"{row.seen}, but expected {row.expected}"
        console.print(f" {mark} {row.step:26} {row.subject:14} {seen}")

    def job() -> int:
        (month,) = month_starts(1, before=clock.now())
        world.up(history_from=None)
        _say(f"portal {world.plan.portal_url}, worker pid {world.child('worker').pid}, data in {folder}")
        world.introduce_instances()
        walk = Walk(world, show)
        agreed = walk.run(month)
        wrong = sum(not row.agrees for row in walk.rows)
        console.print(
            f"{len(walk.rows)} figures compared, {wrong} differ."
            if wrong
            else f"{len(walk.rows)} figures compared, all agree."
        )
        return 0 if agreed else 1

    return _guarded(world, job)


def _stay(data: Path, *, fleet: int, port: int | None, fresh: bool, months: int, leads: int) -> int:
    from provider_federation.demo.history import make_history
    from provider_federation.demo.plan import demo_folder, load_or_make
    from provider_federation.demo.world import World, month_starts
    from provider_federation.kit import clock

    try:
        folder = demo_folder(data, fleet, fresh=fresh)
        plan = load_or_make(folder, fleet=fleet, port=port, months=months + 1, leads=leads)
    except ValueError as error:
        _say(str(error))
        return 2
    world = World(plan, _say)

    def job() -> int:
        starts = month_starts(months, before=clock.now())
        first = not plan.prepared
        _say("making the demo's data, once; this takes about a minute …" if first else "starting …")
        world.up(history_from=starts[0])
        if first:
            world.introduce_instances()
            make_history(world, starts)
            plan.prepared = True
            plan.save()
        _welcome(world)
        Event().wait()
        return 0

    return _guarded(world, job)


def _guarded(world: Any, job: Any) -> int:
    """Run `job`; whatever ends it, every child is stopped before we leave."""
    from provider_federation.demo.client import CallFailed
    from provider_federation.demo.processes import DidNotStart, PortTaken

    try:
        code: int = job()
    except KeyboardInterrupt:
        _say("\nstopping …")
        return 0
    except PortTaken as taken:
        _say(str(taken))
        return 2
    except (DidNotStart, CallFailed) as failed:
        _say(f"{failed}\nThe logs are in {world.plan.folder / 'logs'}.")
        return 1
    else:
        return code
    finally:
        world.down()


def _welcome(world: Any) -> None:
    plan = world.plan
    _say("\nEverything runs. Ctrl-C stops it.\n")
    _say(_entry("Provider Portal", plan.portal_url, plan.operator, plan.operator_password))
    if plan.colleague_password:
        _say(_entry("Who approves", plan.portal_url, plan.colleague, plan.colleague_password))
    for instance in plan.instances:
        title = f"{instance.title} ({instance.plan}, signs with {instance.mode})"
        _say(_entry(title, instance.base_url, instance.owner, instance.password))
    _say(f"  Stripe simulator   {plan.stripe_url}\n")


def _entry(title: str, address: str, person: str, password: str) -> str:
    return f"  {title}\n    {address}   sign in as {person}  {password}"

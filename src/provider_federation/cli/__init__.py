"""The command `provider-federation`: arguments and printing only. Each module here holds one group of commands."""

from __future__ import annotations

import importlib
import sys

# name of the group: (module, one line for --help)
_GROUPS = {
    "portal": ("portal", "Run and look after the Provider Portal."),
    "instance": ("instance", "Run and look after a client instance (the reference app)."),
}
_COMMANDS = {
    "stripe-sim": ("stripe_sim", "stripe_sim"),
    "demo": ("demo", "demo"),
    "call": ("call", "call"),
    "sign": ("sign", "sign"),
}


def main() -> None:
    """Entry point. Without the `cli` extra there is one clear line instead of a traceback."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit("The command line needs its extra: pip install 'provider-federation[cli]' (or [portal], [instance], [demo]).")
    from provider_federation import __version__
    from provider_federation.kit.env import ConfigInvalid
    from provider_federation.kit.problem import Problem

    app = typer.Typer(
        help=f"Provider Federation {__version__}: one portal for the many client instances of an app.",
        no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
    )
    for name, (module, text) in _GROUPS.items():
        app.add_typer(_load(module).app, name=name, help=text)
    for name, (module, function) in _COMMANDS.items():
        app.command(name)(getattr(_load(module), function))
    try:
        app()
    except (Problem, ConfigInvalid) as problem:
        print(f"{problem} [{problem.code}]", file=sys.stderr)
        sys.exit(2)


def _load(module: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  modules have no useful type
    return importlib.import_module(f"provider_federation.cli.{module}")

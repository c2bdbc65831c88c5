"""Reading the environment once, at start, with messages that name the variable and never its value."""

from __future__ import annotations

import os
from collections.abc import Mapping

ENVIRONMENT_VARIABLE = "PROVIDER_FEDERATION_ENV"


class ConfigInvalid(Exception):
    """A setting that stops the process at start. `code` is stable; the message never holds a secret."""

    def __init__(self, variable: str, message: str, code: str = "config_invalid") -> None:
        super().__init__(f"{variable}: {message}")
        self.variable = variable
        self.code = code


class Environment:
    """Typed reader over a mapping (`os.environ` by default)."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = os.environ if values is None else values

    @property
    def development(self) -> bool:
        """True only when PROVIDER_FEDERATION_ENV says `development` in so many letters."""
        return self.values.get(ENVIRONMENT_VARIABLE, "") == "development"

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, default).strip()

    def required(self, name: str, why: str) -> str:
        value = self.text(name)
        if not value:
            raise ConfigInvalid(name, f"is not set; {why}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.text(name, "1" if default else "0").lower()
        if value in {"1", "true", "yes", "on"}:
            return True
        if value in {"", "0", "false", "no", "off"}:
            return False
        raise ConfigInvalid(name, "must be 1 or 0")

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.text(name)
        if not value:
            return default
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20):
            raise ConfigInvalid(name, f"must be a whole number from {low} to {high}")
        number = int(value)
        if not low <= number <= high:
            raise ConfigInvalid(name, f"must be from {low} to {high}")
        return number

    def names(self, name: str) -> tuple[str, ...]:
        """A comma-separated list."""
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

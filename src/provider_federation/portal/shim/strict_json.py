"""Reading JSON from somebody we do not trust: what we read from instances and what callers send us has one meaning."""

from provider_federation.kit.strict_json import NotJson, read_object

__all__ = ["NotJson", "read_object"]

"""Provider Federation: one portal that securely calls, watches and bills the many client instances of an app."""

__version__ = "0.1.0"

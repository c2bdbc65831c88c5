"""The portal's JSON surface: every feature's router under one OpenAPI document (contract, section 4)."""

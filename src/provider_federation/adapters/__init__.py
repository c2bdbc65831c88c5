"""A short file per framework, translation only; `gate` is what they share, `replay` stores that do I/O."""

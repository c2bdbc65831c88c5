"""Small shared tools: clock, environment, problems, cursors, secrets at rest, logs, typed JSON routes.

No settings and no protocol in here; each module stands alone.
"""

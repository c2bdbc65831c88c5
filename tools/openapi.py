"""Write the two OpenAPI files from the code: `tools/openapi.py`; with `--check`, only say whether they are up to date."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "openapi"
SIDES = ("portal", "instance")
# A process each: the portal and the instance are two Django programs. Of two schemas with one name the document would
# hold the last one, for the routes of both.
_PRINT = """
import collections, django, importlib, json, sys
from pydantic import BaseModel

def below(schema):
    for one in schema.__subclasses__():
        yield one
        yield from below(one)

django.setup()
api = importlib.import_module(sys.argv[1]).api
made = api.get_openapi_schema(path_prefix="/api/")
rooms = collections.defaultdict(set)
for schema in below(BaseModel):
    rooms[schema.__name__].add(schema.__module__)
for name in made["components"]["schemas"]:
    if len(rooms[name]) > 1:
        sys.exit(f"{name} is the name of several schemas: {sorted(rooms[name])}")
print(json.dumps(made, indent=1, sort_keys=True))
"""


def document(side: str) -> str:
    """The file's text for "portal" or "instance". Needs neither a database nor anybody's settings."""
    with tempfile.TemporaryDirectory(prefix="pf-openapi-") as folder:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PROVIDER_FEDERATION_ENV": "development",
            "DJANGO_SETTINGS_MODULE": f"provider_federation.{side}.settings",
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
            "PORTAL_DATA_DIR": folder,
            "INSTANCE_DATA_DIR": folder,
        }
        command = [sys.executable, "-c", _PRINT, f"provider_federation.{side}.api"]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"The {side}'s document could not be made:\n{done.stderr}")
    return json.dumps(json.loads(done.stdout), indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for side in SIDES:
        path, text = FOLDER / f"{side}.json", document(side)
        if path.exists() and path.read_text() == text:
            continue
        stale.append(side)
        if "--check" not in arguments:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    if stale and "--check" in arguments:
        print(f"Out of date: {', '.join(stale)}. Run: python tools/openapi.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Is there a Chromium for the browser tests? Silent when there is one; installs Debian's where we may.

Looks at the variable CHROMIUM, then at the usual names. Where it is missing and cannot be installed, one
line says that the browser tests will be skipped; in CI (`CI=true`) that is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALL = (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"])
_SECONDS = 600


def find_chromium() -> str | None:
    """The path of a Chromium, or None."""
    given = os.environ.get("CHROMIUM", "")
    if given:
        return shutil.which(given)
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def install_chromium() -> str | None:
    """With the system's package manager, where we are allowed to; the path afterwards, or None."""
    if os.environ.get("CHROMIUM") or not shutil.which("apt-get") or os.geteuid() != 0:
        return None
    print("Installing Chromium for the browser tests …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in _INSTALL:
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0:
            return None
    return find_chromium()


def main() -> int:
    if find_chromium() or install_chromium():
        return 0
    wanted = os.environ.get("CHROMIUM")
    why = (
        f"CHROMIUM={wanted} is not a program"
        if wanted
        else "none is installed, and this user may not install one"
    )
    print(
        f"No Chromium ({why}): the browser tests will be skipped. Install chromium, or set CHROMIUM to its path."
    )
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())

"""The core needs the standard library and nothing else; without its extra the command says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


def _alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run without site-packages (-S), so that nothing installed can be imported by accident."""
    program = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); {code}"
    return subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)


def test_the_protocol_and_its_asgi_adapter_import_nothing_that_is_installed() -> None:
    done = _alone(
        "import provider_federation.protocol, provider_federation.protocol.config, provider_federation.money, "
        "provider_federation.adapters.asgi, provider_federation.adapters.replay; "
        "print(sorted(name for name, m in sys.modules.items() if 'site-packages' in (getattr(m, '__file__', '') or '')))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_command_without_its_extra_is_one_clear_line() -> None:
    done = _alone("from provider_federation.cli import main; main()")
    assert done.returncode == 1
    assert done.stderr.startswith("The command line needs its extra: pip install")
    assert "Traceback" not in done.stderr


def test_a_command_without_its_extra_names_it() -> None:
    program = (
        "import sys; sys.modules['django'] = None; sys.argv = ['provider-federation', 'call', 'acme', 'GET', '/']; "
        "from provider_federation.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "django is not installed: this command needs pip install 'provider-federation[portal]'.\n",
    )

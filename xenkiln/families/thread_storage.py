"""Libraries with thread-local storage, which 32-bit guests of old are better without under Xen."""

from __future__ import annotations

from pathlib import Path

from xenkiln.model.configure import Configure
from xenkiln.system.steps import Run, Step

DISABLE_TLS = "if [ -d /lib/tls ]; then mv /lib/tls /lib/tls.disabled; fi"


def make_tls_steps(configure: Configure, root: Path) -> list[Step]:
    """What the recipe's `disable_tls` asks for; a guest without such libraries is left as it is."""
    if not configure.disable_tls:
        return []
    return [Run("disable TLS: mv /lib/tls /lib/tls.disabled", ("/bin/sh", "-c", DISABLE_TLS), root=root)]

"""The command line: everything the gateway does, scriptable.

Exit codes: 0 done, 1 refused or not confirmed, 2 wrong usage or a bad file, 3 no gateway answers.
"""

from __future__ import annotations

import sys
from importlib import import_module

QUICK = frozenset(
    {"stop", "status", "reset", "start", "stop-site", "alarms", "acknowledge", "events", "stop-run", "hold", "resume"}
)
"""Verbs that only ask a running gateway. They, and STOP above all, do not wait for what the others have to import."""


def main() -> None:
    """Run the command line."""
    quick = sys.argv[1:2] and sys.argv[1] in QUICK
    import_module("gateway.cli.operate" if quick else "gateway.cli.verbs").app()

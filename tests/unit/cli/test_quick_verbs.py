"""STOP does not wait for imports that it does not need."""

from __future__ import annotations

import subprocess
import sys

from gateway.cli import QUICK, operate


def test_every_verb_that_only_asks_is_quick() -> None:
    names = {command.name or command.callback.__name__ for command in operate.app.registered_commands if command.callback}
    assert names == QUICK


def test_stop_imports_neither_numpy_nor_the_control_process() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['bess-gateway', 'stop', '--state', '/nonexistent']\n"
        "from gateway.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code)\n"
        "print(sorted({'numpy', 'pymodbus', 'gateway.app'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["3", "[]"]

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from config import embedded


def test_rooms_import_downward_only():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=embedded.CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

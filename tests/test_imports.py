from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from config import embedded


def test_rooms_import_downward_only():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=embedded.CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_process_loads_a_backends_library_before_its_first_use():
    code = (
        "import django, sys; django.setup(); import agents.tasks, config.urls;"
        "print(*{'acp', 'pydantic_ai', 'twisted'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=embedded.CHECKOUT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr

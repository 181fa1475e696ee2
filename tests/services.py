"""A data directory and servers of the tests' own; loaded before Django reads its settings.

`DATABASE_URL` and `REDIS_URL` point the same tests at other servers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

HOME = Path(tempfile.mkdtemp(prefix="tutti-tests-")).resolve()

os.environ["TUTTI_HOME"] = str(HOME)
os.environ["TUTTI_EMBEDDED_DURABLE"] = "no"
os.environ["TUTTI_REDIS_PREFIX"] = f"tutti-test-{os.getpid()}"
os.environ.setdefault("TUTTI_LOG_LEVEL", "WARNING")
os.environ.setdefault("SECRET_KEY", "only-for-tests")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    from config import embedded

    embedded.stop(HOME)
    shutil.rmtree(HOME, ignore_errors=True)

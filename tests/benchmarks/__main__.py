"""`python -m tests.benchmarks [--quick] [--only engine|demo|ceiling|economics|agents]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from tests.benchmarks.rows import Row

DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    """Measure on servers of its own, print every figure, and write docs/benchmarks.*."""
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="tutti-bench-", ignore_cleanup_errors=True) as name:
        home = Path(name).resolve() / "home"
        set_up(home)
        from tests.benchmarks import rows

        about = rows.machine()
        found: list[rows.Row] = []
        for one in measured(home, options):
            found.append(one)
            mark = {True: "ok", False: "MISSED", None: ""}[one.ok]
            print(f"{one.name:<80} {one.value:>8g} {one.unit:<5} {one.goal:<8} {mark}", flush=True)
            if not options.only:
                rows.write(found, about, options.note, DOCS)
    missed = [one.name for one in found if one.ok is False]
    print(f"{len(found)} figures, {len(missed)} goals missed.")
    return 1 if missed else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true", help="one demo, the small comparison")
    parts = ["engine", "demo", "ceiling", "economics", "agents"]
    parser.add_argument("--only", choices=parts, help="writes no files")
    parser.add_argument("--note", action="append", default=[], help="a line for the page's end")
    return parser.parse_args()


def set_up(home: Path) -> None:
    """Point Django at the home, which has to happen before anything reads the settings."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    (home / "logs").mkdir(parents=True)
    os.environ["TUTTI_HOME"] = str(home)
    os.environ.setdefault("TUTTI_CACHE", str(Path(__file__).parents[2] / ".tutti" / "cache"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("TUTTI_LOG_LEVEL", "WARNING")
    django.setup()


def measured(home: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Every figure as soon as it is there; the servers stay up until the last one."""
    from django.conf import settings

    from tests.benchmarks import agents, economics, engine, jobs, quotas
    from tests.faults.installation import Installation

    installation = Installation(home, haste={})
    try:
        installation.open()
        if options.only in (None, "demo"):
            demos = [jobs.run(installation, "boltons") for _ in range(1 if options.quick else 3)]
            yield from jobs.bound_rows(demos)
            yield from jobs.hand_off_rows(demos, settings.TUTTI_TICK_SECONDS)
        if options.only in (None, "ceiling"):
            # A chain gains little by its nature, but it must not lose.
            chosen = ("itsdangerous", 0.3, "", 1.0), ("boltons", 0.3, "merge_red", 1.5)
            yield from jobs.ceiling_rows(installation, *chosen[not options.quick])
        if options.only in (None, "agents"):
            yield from agents.rows(5 if options.quick else 9, 8 if options.quick else 20)
        # Last, for a clock would start what waits in its projects.
        if options.only in (None, "engine"):
            yield from engine.rows(20 if options.quick else 40)
            yield from quotas.quota_rows(40 if options.quick else 100)
        if options.only in (None, "economics"):
            yield from economics.rows(3 if options.quick else 5)
    finally:
        installation.close()


if __name__ == "__main__":
    sys.exit(main())

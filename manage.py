#!/usr/bin/env python
"""Commands of Tutti: `manage.py help` lists them."""

from __future__ import annotations

import os
import sys

#: Commands that touch no database; before all others the embedded servers are started if needed.
WITHOUT_SERVERS = {"", "help", "version", "check", "collectstatic", "diffsettings", "findstatic"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    from config import embedded

    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in WITHOUT_SERVERS or name.startswith("-") or "--help" in sys.argv:
        execute_from_command_line(sys.argv)
        return
    try:
        with embedded.servers():
            execute_from_command_line(sys.argv)
    except embedded.EmbeddedError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""Compile every template: `python -m tests.check_templates`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent / "templates"


def broken_templates() -> list[str]:
    """List `name: error` of each template that does not compile."""
    from django.template import TemplateDoesNotExist, TemplateSyntaxError
    from django.template.loader import get_template

    found = []
    for path in sorted(path for path in ROOT.rglob("*") if path.suffix in {".html", ".txt"}):
        name = path.relative_to(ROOT).as_posix()
        try:
            get_template(name)
        except (TemplateSyntaxError, TemplateDoesNotExist) as error:
            found.append(f"templates/{name}: {error}")
    return found


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    broken = broken_templates()
    print("\n".join(broken) or "All templates compile.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

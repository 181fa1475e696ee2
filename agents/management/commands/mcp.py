"""Serve a running agent's tools over stdin and stdout, where it can't reach the web process."""

from __future__ import annotations

import asyncio
import os
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.services import channels


class Command(BaseCommand):
    help = "Serve the tools of one running agent over stdio; its token is in TUTTI_MCP_TOKEN."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run", type=int, required=True, help="number of the run")

    def handle(self, *args: Any, **options: Any) -> None:
        run = channels.run_of(os.environ.get("TUTTI_MCP_TOKEN", ""))
        if run is None or run.pk != options["run"]:
            raise CommandError(
                "TUTTI_MCP_TOKEN is not the token of this run, or the run has ended. Tutti puts "
                "it into the environment of a running agent."
            )
        # The MCP library takes its time; every other command goes without.
        backchannel = import_module("agents.backchannel")
        made = backchannel.server()
        backchannel.RUN.set(run)
        asyncio.run(made.run_stdio_async())

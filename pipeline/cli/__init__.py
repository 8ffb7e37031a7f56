"""The command ``hydrogate``. Exit status 0 (holds), 1 (a contract or gate refuses), 2 (input or call unusable)."""

import sys

# Importing these modules declares their commands, in the order of the help.
from hydrogate.pipeline.cli import checking, data, students, deciding  # isort: skip
from hydrogate.pipeline.cli.app import app
from hydrogate.pipeline.stage import stage_exit_status

__all__ = ["app", "main"]
COMMANDS = (checking, data, students, deciding)


def main() -> None:
    """The console command's entry point."""

    def call() -> int:
        app()  # ends the process itself, also with 2 for a call that it cannot read
        return 0

    sys.exit(stage_exit_status(call))

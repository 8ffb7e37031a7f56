"""The command ``hydrogate``. Exit status 0 (passed), 1 (a contract or gate failed), 2 (invalid input or options)."""

import sys
from io import TextIOWrapper

# Importing these modules registers their commands, in the order of the help.
from hydrogate.pipeline.cli import checking, data, students, deciding  # isort: skip
from hydrogate.pipeline.cli.app import app
from hydrogate.pipeline.program import INTERRUPTED, stage_exit_status

__all__ = ["app", "main"]
COMMANDS = (checking, data, students, deciding)


def main() -> None:
    """Run the command that is named on the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an Å or a stray byte in a name must not end the command
            stream.reconfigure(errors="backslashreplace")

    def call() -> int:
        try:
            app()  # exits the process itself, with 2 for invalid options
        except SystemExit as end:
            if end.code == INTERRUPTED:  # Typer exits silently here
                raise KeyboardInterrupt from end
            raise
        return 0

    sys.exit(stage_exit_status(call))

"""The command ``hydrogate``. Exit status 0 (holds), 1 (a contract or gate refuses), 2 (input or call unusable)."""

import sys
from io import TextIOWrapper

# Importing these modules declares their commands, in the order of the help.
from hydrogate.pipeline.cli import checking, data, students, deciding  # isort: skip
from hydrogate.pipeline.cli.app import app
from hydrogate.pipeline.program import INTERRUPTED, stage_exit_status

__all__ = ["app", "main"]
COMMANDS = (checking, data, students, deciding)


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what its encoding lacks, an Å or a byte of a name, ends no command
            stream.reconfigure(errors="backslashreplace")

    def call() -> int:
        try:
            app()  # ends the process itself, also with 2 for a call that it cannot read
        except SystemExit as end:
            if end.code == INTERRUPTED:  # of which Typer says nothing
                raise KeyboardInterrupt from end
            raise
        return 0

    sys.exit(stage_exit_status(call))

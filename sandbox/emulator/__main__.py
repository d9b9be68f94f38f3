"""`python -m sandbox.emulator`."""

import typer

from sandbox.emulator.cli import emulator

typer.run(emulator)

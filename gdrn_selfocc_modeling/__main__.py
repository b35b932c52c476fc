"""`python -m sopose`: the command `sopose`, also for torchrun."""

from sopose.cli.main import run

run()

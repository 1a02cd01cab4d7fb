"""``python -m sluice_agent`` is the command ``sluice-agent``."""

from sluice_agent.cli import main

main(prog_name="sluice-agent")

"""The commands of ``sluice-agent``, each group in a file of its own; `sluice_agent.cli` puts them together."""

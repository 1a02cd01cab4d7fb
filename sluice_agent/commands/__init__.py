"""The commands of ``sluice-agent``, each group in a separate file; `sluice_agent.cli` assembles them."""

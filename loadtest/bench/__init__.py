"""The gateway's speed beside that of its peers: one command, one machine, one mock engine."""

"""The contract: the simulated engine against the real one."""

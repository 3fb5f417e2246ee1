"""Adapters of the ports that the gateway owns: limits and keys, in memory and on files."""

"""Adapters of the ports that the gateway owns: keys, tokens and limits, wherever they are kept."""

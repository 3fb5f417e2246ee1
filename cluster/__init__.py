"""Serve gpt-oss models with reasoning effort as the unit of routing, scheduling, limits and cost."""

"""Loaded by path in vLLM's engine process, which imports a plugin as a file and not as a module of ours."""

import cluster.serving.reasoning_parser  # registers the reasoning parser
import cluster.serving.thinking_budget  # noqa: F401 - mends the budget

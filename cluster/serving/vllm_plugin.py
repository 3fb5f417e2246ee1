"""Loaded by path in vLLM's engine process, which imports a plugin as a file and not as a module of ours."""

import cluster.serving.reasoning_parser  # noqa: F401 - registers the reasoning parser

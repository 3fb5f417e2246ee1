"""``python -m cluster`` is ``gpt-oss-cluster``."""

from cluster.cli import main

main()

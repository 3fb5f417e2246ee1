"""The only package that may import ray or vllm: pools, replicas, routers and the simulated engine."""

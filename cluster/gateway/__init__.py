"""The ASGI gateway: auth, effort, limits, relay, settlement and metrics in front of Ray Serve."""

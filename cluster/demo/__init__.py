"""The whole system on one machine: a local Ray Serve, two pools, the gateway, and a key that works."""

"""Load tests of a running system with Locust: who asks, in which shape, and what came of it."""

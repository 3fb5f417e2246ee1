"""A simulated engine: vLLM's wire format, slots, queue and timing, without a model.

It needs neither Ray nor vLLM, starts in a second, and a contract test holds it to the real engine's answers.
"""

from cluster.serving.sim.app import AddressInUse, SimulatedApp, create_app, run

__all__ = ["AddressInUse", "SimulatedApp", "create_app", "run"]

"""A simulated engine: vLLM's wire format, slots, queue and timing, without a model.

It needs neither Ray nor vLLM, starts in a second, and a contract test holds it to the real engine's answers.
"""

from cluster.serving.sim.app import MAX_MODEL_LEN, SimulatedApp, create_app, run
from cluster.serving.sim.asgi import AddressInUse

__all__ = ["MAX_MODEL_LEN", "AddressInUse", "SimulatedApp", "create_app", "run"]

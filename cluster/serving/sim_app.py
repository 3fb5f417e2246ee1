"""The application of a pool of simulated engines.

Built from the parts that `ray.serve.llm.build_openai_app` itself puts together, because importing that
module costs each process 10 s of CPU for vLLM, which nothing here uses.
"""

from ray import serve

# Private: the ingress router that HAProxy asks. Public access to it is `build_openai_app` alone, see above.
from ray.llm._internal.serve.core.ingress.router import LLMRouter
from ray.serve import Application

from cluster.serving import deploy
from cluster.serving import pool as pools
from cluster.serving.sim_server import SimServer

MAX_ONGOING = 1_000_000_000
"""Ray LLM's own: a limit here would be a FIFO queue in front of the engine's ordered one."""
ROUTER_MAX_ONGOING = 1000
"""Ray LLM's own limit for its ingress router."""


def build(pool: pools.Pool) -> Application:
    """Return the application of a simulated pool."""
    replicas = serve.deployment(
        name=deploy.deployment_name(pool.name, pool.settings),
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={"num_cpus": 0, "resources": pools.node_resources(pool)},
        **pools.deployment_options(pool),
    )(serve.ingress()(SimServer)).bind(pool)
    router = serve.deployment(max_ongoing_requests=ROUTER_MAX_ONGOING, ray_actor_options={"num_cpus": 0})(
        LLMRouter
    ).bind(server=replicas)
    application: Application = replicas._with_ingress_request_router(router)  # private, as the import above
    return application

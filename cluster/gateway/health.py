"""The admin face, on an address of its own: ``/metrics``, ``/livez`` and ``/readyz``."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cluster.gateway.admission import Gate
from cluster.gateway.ports import KeyStore


def build_admin(registry: CollectorRegistry, keys: KeyStore, gate: Gate) -> Starlette:
    """Return the admin application.

    Ready means: settings and keys are loaded, and the gateway does not drain. It does not depend on the
    engines: while they are away the gateway itself answers 503.
    """

    def metrics(_: Request) -> Response:
        # no coroutine, so that it runs in a thread: thousands of series take longer than a stream may wait
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        if gate.draining:
            return PlainTextResponse("draining\n", status_code=503)
        if not keys.ready:
            return PlainTextResponse("keys are not loaded\n", status_code=503)
        return PlainTextResponse("ready\n")

    app = Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])
    app.router.redirect_slashes = False  # a path is ours as it is written, or not at all
    return app

"""The way to a Kubernetes API, for commands: by a kubeconfig, or by the account of the pod they run in."""

from pathlib import Path

from kubernetes import client, config
from kubernetes.config.incluster_config import InClusterConfigLoader

from cluster.stores import key_secret


class NoWayError(Exception):
    """There are no credentials for a Kubernetes API; the message says where they were looked for."""


def connect(kubeconfig: Path | None, context: str | None) -> tuple[client.ApiClient, str]:
    """Return a client that tries each request once, and the namespace that its credentials are for.

    Raises `NoWayError`.
    """
    configuration = client.Configuration()
    configuration.retries = 0  # callers try again as a whole, and say so
    try:
        if key_secret.in_pod(kubeconfig, context):
            account = key_secret.SERVICE_ACCOUNT
            InClusterConfigLoader(
                token_filename=str(account / "token"),
                cert_filename=str(account / "ca.crt"),
                try_refresh_token=False,
            ).load_and_set(configuration)
            namespace = key_secret.pod_namespace()
        else:
            file = str(kubeconfig) if kubeconfig else None
            config.load_kube_config(file, context, configuration, persist_config=False)
            contexts, active = config.list_kube_config_contexts(file)
            namespace = key_secret.kubeconfig_namespace(contexts, active, context)
    except (config.ConfigException, OSError) as error:
        way = kubeconfig or "the pod's account or kubectl's own kubeconfig"
        raise NoWayError(
            f"no way to the Kubernetes API by {way}: {error}. Name a kubeconfig: --kubeconfig or $KUBECONFIG"
        ) from error
    return client.ApiClient(configuration), namespace

"""Objects that the API takes, for tests to spoil."""

import copy
from typing import Any

from tests.kube.status import Object

_CONTAINER: Object = {
    "name": "main",
    "image": "registry.example.com/app@sha256:" + "0" * 64,
    "ports": [{"name": "http", "containerPort": 8080}],
    "env": [{"name": "MODE", "value": "fast"}],
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
}
_POD: Object = {"containers": [_CONTAINER], "volumes": [{"name": "tmp", "emptyDir": {}}]}
_RAY_POD: Object = {"spec": {"containers": [{"name": "ray", "image": "registry.example.com/engine:1"}]}}

_OBJECTS: dict[str, Object] = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": _POD},
        },
    },
    "Job": {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {"template": {"spec": {**_POD, "restartPolicy": "Never"}}},
    },
    "Pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": _POD},
    "Secret": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"a": "MQ=="}},
    "ConfigMap": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"a": "1"},
    },
    "Service": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    },
    "HorizontalPodAutoscaler": {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        },
    },
    "PodDisruptionBudget": {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    },
    "NetworkPolicy": {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8080}]}],
        },
    },
    "Ingress": {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {
            "rules": [
                {
                    "host": "llm.example.com",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "web", "port": {"name": "http"}}},
                            }
                        ]
                    },
                }
            ]
        },
    },
    "PersistentVolumeClaim": {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "200Gi"}}},
    },
    "Role": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"], "resourceNames": ["keys"]}
        ],
    },
    "RayService": {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "llm"},
        "spec": {
            "serveConfigV2": "applications: []\n",
            "rayClusterConfig": {
                "rayVersion": "2.60.0",
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": _RAY_POD},
                "workerGroupSpecs": [
                    {
                        "groupName": "h100",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 1,
                        "rayStartParams": {},
                        "template": _RAY_POD,
                    }
                ],
            },
        },
    },
}
KINDS = tuple(_OBJECTS)


def good(kind: str, *changes: tuple[str, Any]) -> Object:
    """Return an object of a kind, with the value at each path replaced (a path as ``spec/ports/0/port``)."""
    made = copy.deepcopy(_OBJECTS[kind])
    for path, value in changes:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
        node: Any = made
        for part in parents:
            node = node[part]
        node[last] = value
    return made

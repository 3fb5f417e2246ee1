"""A Kubernetes API server for tests, over real HTTP on loopback: helm, kubectl and the Python client use it.

It stands in for kube-apiserver, and for the few controllers that clients wait for, where neither can run.
What it does as the real ones do:

- Discovery, plain and aggregated, ``/version``, ``/openapi/v3`` as far as ``kubectl apply`` asks for it,
  and the kinds of `kinds.KINDS`, each in one version. A cluster can be made without a group, as one is
  that lacks KubeRay's definitions.
- ``GET``, ``LIST`` (pages, label and field selectors), ``WATCH`` (from a version, with bookmarks, initial
  events, ends after ``timeoutSeconds``, code 410 for a version that has been compacted away), ``POST``
  (generated names), ``PUT``, ``PATCH`` (JSON merge, strategic merge by the schema's keys, JSON patch,
  server-side apply with conflicts and ``force``), ``DELETE`` (of one or many, preconditions, finalizers,
  what it owns), ``dryRun=All``, the subresources ``status``, ``scale``, ``log`` and ``eviction``.
  ``managedFields`` say who owns what.
- One growing version for all objects. A write that names another version than the object's is 409
  ``Conflict``; one that changes nothing leaves the version alone; one that changes the spec raises
  ``generation``.
- Objects are checked before they are stored: Kubernetes' own schemas, KubeRay's CustomResourceDefinitions
  with their defaults and rules, and by hand what a schema cannot say (`rules`, `pod_rules`): names,
  labels, selectors, ports, probes, mounts, quantities, sizes, what may not change. Refusals are
  ``Status`` objects with the real codes and reasons: 400 for what cannot be read, 422 for what breaks a
  rule.
- Bodies in JSON, YAML (apply) and, for what helm and kubectl post, protobuf.
- Bearer tokens: of roles that a test makes up, and of service accounts, whose rights are the Roles and
  RoleBindings that are stored. 401 and 403 otherwise; ``SelfSubjectAccessReview`` tells beforehand.
- Deployments (with their ReplicaSet), StatefulSets, Jobs, Pods, claims, RayServices and certificates get
  the status that a test gave their kind as a fate; by default all goes well, at once.

It is stricter where a chart's mistakes would show late: an unknown field is always refused (the real one
drops it, unless ``fieldValidation`` says strict), and the pods in a RayService are checked as those that the
operator would make of it.

What it does not: defaults are those that clients go by, not all; custom kinds but KubeRay's are taken as they
are; no admission, quotas, pod security, webhooks, other versions of a kind, tables for ``kubectl get``,
``exec``, proxies or events of its own; no pods come of workloads; an eviction heeds no disruption budget;
messages are close to the real ones, not the same to the letter. It loses everything when it ends.

Faults that a test can order: refuse (`KubernetesApi.fail`, with ``Retry-After`` where it says so), drop
connections, be silent (`hang`), send watches late, end, cut or expire them, forget old versions
(`compact`), break a connection after a write has been done, be away (`stop` and `start`).

A client that helm and kubectl share sends no token without TLS: give the server certificates for those.
"""

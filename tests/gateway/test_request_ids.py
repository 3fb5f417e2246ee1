"""Ids of requests."""

import uuid

from cluster.gateway.request_ids import RequestIds


def test_ids_are_random_uuids_and_never_the_same() -> None:
    """Each is a UUID of version 4, as any parser of them agrees."""
    ids = RequestIds()
    made = [ids() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 4 for one in made)

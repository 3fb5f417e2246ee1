"""Facts about what the claims of a token mean."""

from typing import Any

import pytest

from cluster.settings import ClaimSettings, Grant, Scopes
from cluster.stores.claims import Granted, granted
from cluster.stores.records import AS_ITS_TENANT, merged, within

BY_TENANT = ClaimSettings(tenant="team")
BY_GROUP = ClaimSettings(
    tenant="team",
    grants=(
        Grant(claim="groups", value="research", tenant="lab", scopes=Scopes(see_reasoning=True)),
        Grant(claim="groups", value="users", scopes=Scopes(max_effort="low")),
        Grant(claim="scope", value="llm:chat", tenant="apps", scopes=Scopes(endpoints=("chat",))),
        Grant(claim="realm_access.roles", value="ai", tenant="realm"),
        Grant(claim="https://example.com/role", value="ai", tenant="url"),
    ),
)

CASES = [
    pytest.param(BY_TENANT, {"team": "ads"}, ("ads", AS_ITS_TENANT), id="the tenant's claim"),
    pytest.param(BY_TENANT, {}, None, id="no claim"),
    pytest.param(BY_TENANT, {"team": ["ads"]}, None, id="a list is no tenant"),
    pytest.param(BY_TENANT, {"team": 7}, None, id="a number is no tenant"),
    pytest.param(BY_GROUP, {"groups": ["x", "research"]}, ("lab", AS_ITS_TENANT), id="a group"),
    pytest.param(
        BY_GROUP,
        {"groups": ["users", "research"], "team": "ads"},
        ("lab", AS_ITS_TENANT),
        id="the first grant that fits",
    ),
    pytest.param(
        BY_GROUP,
        {"groups": "users", "team": "ads"},
        ("ads", merged(AS_ITS_TENANT, Scopes(max_effort="low"))),
        id="a grant for the claimed tenant",
    ),
    pytest.param(BY_GROUP, {"groups": ["users"]}, None, id="a grant without any tenant"),
    pytest.param(BY_GROUP, {"team": "ads"}, None, id="no grant fits"),
    pytest.param(BY_GROUP, {"groups": ["Research", "research "], "team": "ads"}, None, id="to the letter"),
    pytest.param(BY_GROUP, {"groups": "a research b"}, None, id="only scopes hold words"),
    pytest.param(
        BY_GROUP,
        {"scope": "openid llm:chat"},
        ("apps", merged(AS_ITS_TENANT, Scopes(endpoints=("chat",)))),
        id="a word of the scope",
    ),
    pytest.param(BY_GROUP, {"scope": "openid llm:chatter"}, None, id="whole words"),
    pytest.param(BY_GROUP, {"realm_access": {"roles": ["ai"]}}, ("realm", AS_ITS_TENANT), id="a path"),
    pytest.param(BY_GROUP, {"realm_access": ["ai"]}, None, id="a path into a list"),
    pytest.param(BY_GROUP, {"https://example.com/role": "ai"}, ("url", AS_ITS_TENANT), id="a URL as name"),
    pytest.param(BY_GROUP, {"groups": {"research": True}}, None, id="an object holds no values"),
]


@pytest.mark.parametrize(("settings", "claims", "expected"), CASES)
def test_grants(settings: ClaimSettings, claims: dict[str, Any], expected: tuple[str, Scopes] | None) -> None:
    """Claims name a tenant and scopes, or nobody."""
    assert granted(claims, settings) == (None if expected is None else Granted(*expected))


def test_what_a_grant_does_not_say_follows_the_tenant() -> None:
    """Within a tenant, a grant narrows what it says and nothing else; it cannot widen."""
    tenant = Scopes(models=("gpt-oss-20b",), max_effort="medium", see_reasoning=False)
    found = granted({"groups": ["research"]}, BY_GROUP)
    assert found is not None
    assert within(found.scopes, tenant) == tenant

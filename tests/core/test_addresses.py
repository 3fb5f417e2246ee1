"""Which address a request comes from."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.addresses import MAX_HOPS, client_address, counted_as, parse_network

TRUSTED = [parse_network(one) for one in ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7")]
PROXY, CLIENT, OTHER = "10.0.0.1", "203.0.113.7", "198.51.100.1"


@pytest.mark.parametrize(("peer", "forwarded", "address"), [
    pytest.param(CLIENT, "", CLIENT, id="no proxy"),
    pytest.param(CLIENT, OTHER, CLIENT, id="a client that pretends"),
    pytest.param(PROXY, "", PROXY, id="a proxy that tells nothing"),
    pytest.param(PROXY, CLIENT, CLIENT, id="a proxy"),
    pytest.param("192.0.2.7", CLIENT, CLIENT, id="a proxy by its address"),
    pytest.param("192.0.2.8", CLIENT, "192.0.2.8", id="its neighbour"),
    pytest.param("2001:db8::1", CLIENT, CLIENT, id="a proxy with IPv6"),
    pytest.param("::ffff:10.0.0.1", CLIENT, CLIENT, id="a proxy on a socket for both"),
    pytest.param(PROXY, f"{CLIENT}, 10.0.0.2,10.0.0.3", CLIENT, id="proxies in a row"),
    pytest.param(PROXY, f"{OTHER}, {CLIENT}", CLIENT, id="what the client wrote itself"),
    pytest.param(PROXY, f"10.0.0.9, {CLIENT}", CLIENT, id="a client that pretends to be a proxy"),
    pytest.param(PROXY, "10.0.0.2, 10.0.0.3", "10.0.0.2", id="nobody but proxies"),
    pytest.param(PROXY, f"{CLIENT}:4711", CLIENT, id="with a port"),
    pytest.param(PROXY, "[2001:db9::7]:4711", "2001:db9::7", id="IPv6 with a port"),
    pytest.param(PROXY, "[2001:db9::7]", "2001:db9::7", id="IPv6 in brackets"),
    pytest.param(PROXY, "2001:db9::7", "2001:db9::7", id="IPv6"),
    pytest.param(PROXY, f"::ffff:{CLIENT}", CLIENT, id="IPv4 in IPv6"),
    pytest.param(PROXY, f"{CLIENT}, unknown", PROXY, id="a word"),
    pytest.param(PROXY, f"{CLIENT}, ", PROXY, id="nothing at the end"),
    pytest.param(PROXY, f"unknown, {CLIENT}", CLIENT, id="a word that is never read"),
    pytest.param(PROXY, 'fe80::1%"\n{"log":"audit"}', PROXY, id="a zone"),
    pytest.param(PROXY, "1" * 10_000, PROXY, id="a long number"),
    pytest.param(PROXY, "\u0661.2.3.4", PROXY, id="digits of another script"),
])  # fmt: skip
def test_the_client_is_the_first_that_is_no_trusted_proxy(peer: str, forwarded: str, address: str) -> None:
    """Read from the right, and no further than trusted proxies wrote."""
    assert client_address(peer, forwarded, TRUSTED) == ip_address(address)


def test_nobody_is_trusted_unasked() -> None:
    """Without trusted proxies the peer is the client."""
    assert client_address(PROXY, CLIENT, []) == ip_address(PROXY)


def test_a_peer_without_an_address() -> None:
    """The other end of a Unix socket has none, whatever it says."""
    assert client_address("", CLIENT, TRUSTED) is None


def test_the_search_is_bounded() -> None:
    """A client that pretends to thousands of proxies costs no more than a few."""
    hops = ",".join([CLIENT, *["10.0.0.2"] * MAX_HOPS])
    assert client_address(PROXY, hops, TRUSTED) == ip_address("10.0.0.2")
    assert client_address(PROXY, hops.replace(",10.0.0.2", "", 1), TRUSTED) == ip_address(CLIENT)


@given(st.text(max_size=60), st.text(alphabet="0123456789abcdef:.[]%, ", max_size=80))
def test_no_header_is_too_strange(peer: str, forwarded: str) -> None:
    """Junk is no address, and raises nothing."""
    client_address(peer, forwarded, TRUSTED)
    client_address(PROXY, forwarded, TRUSTED)


def test_an_ipv6_network_counts_as_one() -> None:
    """A holder of IPv6 addresses has 2**64 of them; one of IPv4 addresses has one."""

    def number(text: str) -> int:
        return counted_as(ip_address(text))

    assert number("2001:db8::1") == number("2001:db8::ffff:ffff:ffff:ffff")
    assert number("2001:db8::1") != number("2001:db8:0:1::1")
    assert number("203.0.113.7") != number("203.0.113.8")
    assert len({number("::"), number("0.0.0.0"), number("255.255.255.255"), counted_as(None)}) == 4

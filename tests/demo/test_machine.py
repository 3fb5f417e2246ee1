"""The demo looks before it starts, and says what is in its way."""

import socket
from pathlib import Path

from cluster.demo import machine
from cluster.demo.machine import Ports

HERE = Path("state")


def test_a_good_machine_has_no_complaints() -> None:
    """Free ports, memory and disk are all that is asked for."""
    assert machine.complaints("vllm", busy=[], memory_gib=24, disk_gib=10, state=HERE) == []


def test_a_port_in_use_is_named_with_the_option_that_changes_it() -> None:
    """The complaint names the port, how to find its owner, and the option."""
    [told] = machine.complaints("sim", busy=[("--port", 8080)], memory_gib=24, disk_gib=10, state=HERE)
    assert "8080" in told
    assert "--port" in told


def test_too_little_memory_is_told_with_what_is_needed() -> None:
    """The complaint says how much is free, how much is needed, and what needs less."""
    [told] = machine.complaints("vllm", busy=[], memory_gib=6.0, disk_gib=10, state=HERE)
    assert "6.0 GiB" in told
    assert f"{machine.NEEDED_MEMORY_GIB['vllm']:.0f} GiB" in told
    assert "ENGINE=sim" in told


def test_too_little_disk_is_told_with_the_place() -> None:
    """The complaint names the folder whose disk is full."""
    [told] = machine.complaints("sim", busy=[], memory_gib=24, disk_gib=0.2, state=HERE)
    assert "state" in told


def test_a_listening_server_makes_its_port_busy() -> None:
    """A port is free until somebody listens on it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not machine.port_is_free(server.getsockname()[1])


def test_free_ports_differ_and_are_free() -> None:
    """Two demos can run side by side: each port is its own and free."""
    ports = machine.free_ports()
    numbers = list(ports.listened().values())
    assert len(set(numbers)) == len(numbers)
    assert all(machine.port_is_free(number) for number in numbers)
    assert ports.direct_max - ports.direct_min >= 20


def test_available_memory_is_read_from_meminfo() -> None:
    """Memory that can be had without swapping counts, in GiB."""
    assert machine.available_memory_gib("MemTotal: 1 kB\nMemAvailable:   2097152 kB\n") == 2.0


def test_the_default_ports_are_the_documented_ones() -> None:
    """The gateway listens on 8080, its admin side on 8081, Serve on 8000."""
    assert (Ports().gateway, Ports().admin, Ports().serve) == (8080, 8081, 8000)

"""A network namespace with loopback alone, and what leaves it would try: addresses and names.

The trace has every address that a system call names. Names are asked of a name server of our own, the only
one that a process inside knows: it writes down what it is asked, and knows nothing.
"""

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CALLS = "connect,sendto,sendmsg,sendmmsg"
_IP = re.compile(r'(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')
_OURS = re.compile(r"127\.|::1$|::ffff:127\.|0\.0\.0\.0$|::$")
"""Loopback, and the unspecified address, which a connection takes for loopback."""


def why_not() -> str:
    """Return why this machine cannot cut a process off; empty if it can."""
    missing = [program for program in ("unshare", "ip", "strace") if shutil.which(program) is None]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install util-linux iproute2 strace"
    if os.geteuid() != 0:
        return "needs root for a network namespace"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, timeout=10, check=False
    )
    return "" if tried.returncode == 0 else "this machine allows no network namespace"


def cut_off(trace: Path, *command: str | Path) -> list[str]:
    """Return ``command`` as one that knows loopback alone, each call to an address in ``trace``.

    Other calls are not stopped at (`--seccomp-bpf`): Serve gives up what is slowed down too much.
    """
    resolver = trace.with_name("resolv.conf")
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    inside = (
        'ip link set lo up && mount --bind "$1" /etc/resolv.conf && shift '
        f'&& exec strace -f --seccomp-bpf -qq -y -e trace={CALLS} -o "$@"'
    )
    shell = ["unshare", "--net", "--mount", "sh", "-c", inside, "sh"]
    return [*shell, str(resolver), str(trace), *map(str, command)]


def addressed(trace: str) -> list[str]:
    """Return the lines that name an internet address, of any kind."""
    return [line for line in trace.splitlines() if _IP.search(line)]


def elsewhere(trace: str) -> list[str]:
    """Return the lines that name an address beyond loopback."""
    return [
        line
        for line in addressed(trace)
        if not all(_OURS.match("".join(found)) for found in _IP.findall(line))
    ]


@contextmanager
def name_server(asked: Path) -> Iterator[None]:
    """Answer that no name exists, and write each that is asked for into ``asked``, a line each."""
    asked.touch()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        thread = threading.Thread(target=_answer, args=(server, asked), daemon=True)
        thread.start()
        yield
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"", server.getsockname())  # the end
        thread.join()


def _answer(server: socket.socket, asked: Path) -> None:
    while True:
        query, client = server.recvfrom(4096)
        if not query:
            return
        with asked.open("a") as file:
            file.write(f"{_name(query)}\n")
        server.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:], client)


def _name(query: bytes) -> str:
    """Return the name that a query (RFC 1035) asks for."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode(errors="replace"))
        at += 1 + query[at]
    return ".".join(labels)

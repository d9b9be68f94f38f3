"""Listening TCP sockets of processes, read from /proc (Linux only)."""

import sys
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path


def listening(pids: list[int]) -> set[tuple[IPv4Address | IPv6Address, int]]:
    """Address and port of every TCP socket on which these processes listen."""
    inodes = set()
    for entry in (entry for pid in pids for entry in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):
            inodes.add(str(entry.readlink()))
    found: set[tuple[IPv4Address | IPv6Address, int]] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                digits, _, port = fields[1].partition(":")
                # Groups of four bytes, each in the machine's byte order.
                raw = b"".join(
                    int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)
                )
                found.add((ip_address(raw), int(port, 16)))
    return found

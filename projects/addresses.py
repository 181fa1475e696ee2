"""Which hosts the server's git may reach: public ones, and those that an admin lists."""

from __future__ import annotations

import ipaddress
import socket

from django.conf import settings

from projects.git import GitError

SHARED = ipaddress.ip_network("100.64.0.0/10")


def reachable(host: str, port: int, shown: str) -> str:
    """Return one address of `host` that may be used; git is held to it, so that it cannot change.

    Raises GitError when there is none, or when any of them is private and no admin lists the host.
    """
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise GitError(
            f"{shown} cannot be read: there is no host {host}; check the address."
        ) from None
    found = list(dict.fromkeys(str(row[4][0]) for row in rows))
    if host.lower() not in listed() and not all(map(is_public, found)):
        raise GitError(
            f"{shown} lies at a private address ({', '.join(found[:3])}), which Tutti does not"
            f" reach. If that is meant, an admin adds {host} to TUTTI_SOURCE_HOSTS and starts Tutti"
            " again."
        )
    return found[0]


def listed() -> set[str]:
    """The hosts that an admin allows whatever their address."""
    return {host.lower() for host in settings.TUTTI_SOURCE_HOSTS}


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet, whichever way it is written."""
    found = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is not None:
            return found.ipv4_mapped is not None and is_public(str(inner))
        if found in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        return found.is_global and not found.is_multicast
    return found.is_global and not found.is_multicast and found not in SHARED

"""What one client may take, and who may come in. asyncua's own limits are made for a laboratory."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_session import InternalSession

from gateway.errors import GatewayError
from gateway.servers.opcua.stack import ua

if TYPE_CHECKING:
    from asyncua.server.internal_server import InternalServer
    from asyncua.server.server import Server


class NotAllowed(GatewayError):
    """The site file asks for a server that would be unsafe to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on what clients may hold; the stock ones are ten to a hundred times as high."""

    connections: int = 50
    subscriptions: int = 100
    session_timeout_ms: float = 120_000.0
    pending_activation_s: float = 10.0
    pending_messages: int = 100
    queue_size: int = 100
    """Values kept per monitored item."""
    unacknowledged_messages: int = 100
    lifetime_count: int = 3000
    keep_alive_count: int = 1000
    message_bytes: int = 4 * 1024 * 1024


LIMITS = Limits()


def apply(server: Server, limits: Limits = LIMITS) -> None:
    """Put the caps into force; before the server starts."""
    internal = server.iserver
    internal.max_connections = limits.connections
    internal.max_subscriptions = limits.subscriptions
    internal.max_session_timeout_ms = limits.session_timeout_ms
    internal.max_pending_activation_seconds = limits.pending_activation_s
    internal.max_pending_messages_per_connection = limits.pending_messages
    internal.max_monitored_item_queue_size = limits.queue_size
    internal.max_unacked_messages_per_subscription = limits.unacknowledged_messages
    internal.max_lifetime_count = limits.lifetime_count
    internal.max_keep_alive_count = limits.keep_alive_count
    InternalSession.max_connections = limits.connections
    server.limits.max_message_size = limits.message_bytes
    server.limits.max_chunk_count = -(-limits.message_bytes // server.limits.max_recv_buffer)


class AnonymousOnly:
    """Lets in who gives no name. Nobody ever becomes the library's Admin: it may write every node."""

    def get_user(
        self, iserver: InternalServer, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """The user of a session; None refuses it."""
        del iserver, password, certificate
        return User(role=UserRole.User) if username is None else None


def secure(server: Server, endpoint: str, *, anonymous: bool) -> None:
    """Set who may come in and how. NotAllowed when that would be unsafe.

    This server has no encryption and no logins yet to offer, so it serves one kind of site only: anonymous, and
    reachable from this machine alone.
    """
    if not anonymous:
        msg = 'OPC UA needs "anonymous = true" in the [opcua] table of the site file: this server has no user logins'
        raise NotAllowed(msg)
    if not _is_loopback(urlsplit(endpoint).hostname or ""):
        msg = (
            f"OPC UA without encryption must not be reachable from other machines, but the endpoint is {endpoint}: "
            'put endpoint = "opc.tcp://127.0.0.1:4840" into the [opcua] table of the site file'
        )
        raise NotAllowed(msg)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    server.set_identity_tokens([ua.AnonymousIdentityToken])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

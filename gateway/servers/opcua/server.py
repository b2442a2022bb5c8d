"""Builds the server for one published site: address space, protocols, methods, limits.

Everything that is here when `open_server` returns stays as it is while the process lives; another site is another process.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asyncua.server.server import Server

from gateway import __version__
from gateway.servers.opcua import limits, model, shared_values, space
from gateway.servers.opcua.nodes import NodeMaker
from gateway.servers.opcua.stack import ua

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from asyncua.ua.uatypes import NodeId

    from gateway.published import PublishedProtocol, PublishedSite
    from gateway.servers.opcua.methods import Methods
    from gateway.servers.opcua.space import Slot

_log = logging.getLogger(__name__)

DEFAULT_NAMESPACE = "urn:bess-gateway"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens."""

    server: Server
    slots: tuple[Slot, ...]
    endpoint: str
    """Where it listens, with the port that it got."""

    @property
    def sessions(self) -> int:
        """Activated sessions that have a connection."""
        clients = self.server.bserver.clients if self.server.bserver else []
        processors = (client.processor for client in clients)
        return sum(1 for processor in processors if processor and processor.session and processor.session.is_activated())

    @property
    def subscriptions(self) -> int:
        """Subscriptions of all sessions."""
        return len(self.server.iserver.subscription_service.subscriptions)


@contextlib.asynccontextmanager
async def open_server(site: PublishedSite, endpoint: str, *, anonymous: bool, methods: Methods) -> AsyncGenerator[Running]:
    """A server that listens while the context lasts. NotAllowed for an unsafe endpoint, OSError when it is taken."""
    shared_values.install()
    server = Server()
    limits.secure(server, endpoint, anonymous=anonymous)
    limits.apply(server)
    await server.init()
    await _introduce(server, site, endpoint)
    namespace = await server.register_namespace(_namespace(site))
    with _without_collector():
        slots = _populate(server, site, NodeMaker(server, namespace), methods)
    await server.start()
    try:
        running = Running(server, slots, _actual(endpoint, server))
        _log.info("serving %s points at %s", len(slots), running.endpoint)
        yield running
    finally:
        await _say_goodbye(server)
        await server.stop()


def _namespace(site: PublishedSite) -> str:
    return site.opcua.namespace if site.opcua and site.opcua.namespace else DEFAULT_NAMESPACE


async def _introduce(server: Server, site: PublishedSite, endpoint: str) -> None:
    server.set_endpoint(endpoint)
    server.name = f"bess-gateway {site.id}"
    server.product_uri = "urn:bess-gateway"
    server.application_type = ua.ApplicationType.Server
    await server.set_application_uri(f"urn:bess-gateway:{site.id}")
    await server.set_build_info("urn:bess-gateway", "bess-gateway", "bess-gateway", __version__, "", datetime.now(UTC))
    await _fill_capabilities(server)


async def _fill_capabilities(server: Server) -> None:
    """Nodes that the library leaves null, with what is true."""
    values: tuple[tuple[int, Any], ...] = (
        (ua.ObjectIds.Server_ServerCapabilities_LocaleIdArray, ua.Variant(["en"], ua.VariantType.String)),
        (ua.ObjectIds.Server_ServerCapabilities_MinSupportedSampleRate, ua.Variant(50.0, ua.VariantType.Double)),
        (ua.ObjectIds.Server_ServerRedundancy_RedundancySupport, ua.Variant(0, ua.VariantType.Int32)),
        (ua.ObjectIds.Server_ServerDiagnostics_EnabledFlag, ua.Variant(False, ua.VariantType.Boolean)),
        (ua.ObjectIds.Server_Auditing, ua.Variant(False, ua.VariantType.Boolean)),
    )
    for node, value in values:
        await server.write_attribute_value(ua.NodeId(node), ua.DataValue(value))


def _populate(server: Server, site: PublishedSite, maker: NodeMaker, methods: Methods) -> tuple[Slot, ...]:
    titles = {string.prefix: string.title for string in site.strings}
    titles |= {f"device.{device.id}": device.title for device in site.devices}
    folders = list(model.build(site.points, titles))
    if not any(folder.node_id == "site" for folder in folders):
        folders.insert(0, model.empty_root("site"))
    root = maker.folder("gateway", ua.NodeId(ua.ObjectIds.ObjectsFolder), site.id, site.title, "Hybrid battery storage")
    slots = space.build(server, maker, root, folders, len(site.points))
    methods.add(server, maker, maker.node_id("site"))
    if site.protocols:
        _add_protocols(maker, root, site.protocols)
    return slots


def _add_protocols(maker: NodeMaker, root: NodeId, protocols: tuple[PublishedProtocol, ...]) -> None:
    browse_name, description = model.ROOTS["protocol"]
    parent = maker.folder("protocol", root, browse_name, browse_name, description)
    for protocol in protocols:
        prefix = f"protocol.{protocol.id}"
        folder = maker.folder(prefix, parent, protocol.id, protocol.title, protocol.description or protocol.title)
        for name, description, text in (
            ("chemistry", "Chemistries that it is for", ", ".join(protocol.chemistry)),
            ("tracks", "Its tracks; each needs one string", ", ".join(protocol.tracks)),
        ):
            maker.text(f"{prefix}.{name}", folder, name, description, text)
        for parameter in protocol.parameters:
            bounds = f", {parameter.min} to {parameter.max} {parameter.unit}" if parameter.min is not None else ""
            maker.text(
                f"{prefix}.parameter.{parameter.name}",
                folder,
                parameter.name,
                f"Parameter: {parameter.description or parameter.name}{bounds}. The value is the default; empty: required",
                "" if parameter.default is None else f"{parameter.default} {parameter.unit}".strip(),
            )


@contextlib.contextmanager
def _without_collector() -> Generator[None]:
    """Build without garbage collections, then put what was built out of the collector's sight.

    A full collection takes about 25 us per node, in the event loop; nodes live as long as the process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()


def _actual(endpoint: str, server: Server) -> str:
    if server.bserver is None:
        return endpoint
    url = server.endpoint
    return url._replace(netloc=f"{url.hostname}:{server.bserver.port}").geturl()


async def _say_goodbye(server: Server) -> None:
    """Tell connected clients that this is a shutdown before they lose the connection (OPC 10000-5, 12.6)."""
    node = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
    await server.write_attribute_value(node, ua.DataValue(ua.Variant(ua.ServerState.Shutdown, ua.VariantType.Int32)))

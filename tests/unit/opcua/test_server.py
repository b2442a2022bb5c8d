"""The server in this process, seen by real clients over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from asyncua import Client, ua

from gateway.clock import SystemClock
from gateway.errors import ControlUnavailable
from gateway.points import Point, Quality
from gateway.servers.opcua.limits import LIMITS, NotAllowed
from gateway.servers.opcua.methods import Methods
from gateway.servers.opcua.publisher import Publisher
from gateway.servers.opcua.server import Running, open_server
from gateway.shared import ImageReader, ImageWriter, LayoutChanged, layout_hash
from tests.unit.opcua.plant import INDEX, POINTS, FakeControl, Writer, published

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOLTAGE = "string.A.battery.cell.1.voltage"
CURRENT = "string.A.battery.current"


class Plant:
    """A writer, a server on its image, and what a test needs to look at them."""

    def __init__(self, run, writer, served, publisher) -> None:
        self.run = run
        self.writer = writer
        self.running = served.running
        self.publisher = publisher
        self.control = served.control
        self.namespace = served.namespace

    def node(self, client: Client, name: str):
        return client.get_node(ua.NodeId(name, self.namespace))

    async def show(self) -> None:
        self.writer.commit()
        await self.publisher.step()


@dataclass
class Served:
    """One server for all tests, because the standard's own nodes take a second to make."""

    running: Running
    control: FakeControl
    namespace: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served():
    control = FakeControl()
    methods = Methods(control, SystemClock(), role="operator", deadline_s=0.3)
    async with open_server(published(), "opc.tcp://127.0.0.1:0", anonymous=True, methods=methods) as running:
        yield Served(running, control, await running.server.get_namespace_index("urn:bess-gateway"))


@pytest.fixture
def plant(served, tmp_path):
    """A fresh writer and publisher on the server; the first `show` writes every node anew."""
    served.control.__init__()
    writer = Writer(tmp_path)
    publisher = Publisher(served.running.server, served.running.slots, ImageReader(tmp_path / "image"), SystemClock())
    return Plant(tmp_path, writer, served, publisher)


@pytest_asyncio.fixture(loop_scope="module")
async def client(plant):
    async with Client(plant.running.endpoint) as client:
        yield client


async def test_a_value_arrives_with_its_own_source_time_and_a_server_time(plant, client):
    read_at = time.time_ns() - 3_000_000_000
    plant.writer.set(VOLTAGE, 3.312, time_ns=read_at)
    await plant.show()
    data = await plant.node(client, VOLTAGE).read_data_value()
    assert data.Value.Value == 3.312
    assert data.Value.VariantType is ua.VariantType.Double
    assert data.StatusCode.is_good()
    assert data.SourceTimestamp == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=read_at // 1000)
    assert abs(data.ServerTimestamp - datetime.now(UTC)) < timedelta(seconds=2)


async def test_before_the_first_sample_a_node_waits_for_initial_data(plant, client):
    await plant.show()
    data = await plant.node(client, VOLTAGE).read_data_value(raise_on_bad_status=False)
    assert data.StatusCode.name == "BadWaitingForInitialData"
    assert data.Value.Value is None


async def test_bad_has_no_value_uncertain_keeps_it_and_good_returns(plant, client):
    node = plant.node(client, VOLTAGE)
    for value, quality in (
        (3.3, Quality.GOOD),
        (3.3, Quality.UNCERTAIN_LAST_USABLE_VALUE),
        (None, Quality.BAD_SENSOR_FAILURE),
        (3.4, Quality.GOOD),
    ):
        plant.writer.set(VOLTAGE, value, quality)
        await plant.show()
        data = await node.read_data_value(raise_on_bad_status=False)
        assert (data.Value.Value, data.StatusCode.name) == (value, quality.opcua_name)


@pytest.mark.parametrize(
    ("name", "value", "type_id", "data_type", "expected"),
    [
        (VOLTAGE, 3.3, ua.ObjectIds.AnalogUnitRangeType, ua.VariantType.Double, 3.3),
        (CURRENT, -5.0, ua.ObjectIds.AnalogUnitType, ua.VariantType.Double, -5.0),
        ("site.time_factor", 60.0, ua.ObjectIds.AnalogItemType, ua.VariantType.Double, 60.0),
        ("string.A.converter.mode", 3.0, ua.ObjectIds.MultiStateDiscreteType, ua.VariantType.UInt32, 3),
        ("string.A.converter.heartbeat", 17.0, ua.ObjectIds.BaseDataVariableType, ua.VariantType.Int64, 17),
        ("string.A.battery.fault_flags", 9.0, ua.ObjectIds.OptionSetType, ua.VariantType.UInt32, 9),
        ("string.A.trip.latched", 1.0, ua.ObjectIds.TwoStateDiscreteType, ua.VariantType.Boolean, True),
        (
            "string.A.trip.reason",
            "cell 3 at 3.66 V",
            ua.ObjectIds.BaseDataVariableType,
            ua.VariantType.String,
            "cell 3 at 3.66 V",
        ),
    ],
)
async def test_every_kind_of_point_has_its_type_and_data_type(plant, client, name, value, type_id, data_type, expected):
    plant.writer.set(name, value)
    await plant.show()
    node = plant.node(client, name)
    data = await node.read_data_value()
    assert (data.Value.Value, data.Value.VariantType) == (expected, data_type)
    assert await node.read_type_definition() == ua.NodeId(type_id)
    assert await node.read_data_type() == ua.NodeId(data_type.value)
    assert (await node.read_browse_name()).Name == name.split(".")[-1]
    assert (await node.read_description()).Text


async def test_units_ranges_and_names_of_states_are_properties(plant, client):
    async def prop(name: str, title: str):
        return await (await plant.node(client, name).get_child(f"0:{title}")).read_value()

    for cell in range(1, 5):  # they share the property nodes
        name = f"string.A.battery.cell.{cell}.voltage"
        assert (await prop(name, "EngineeringUnits")).UnitId == 5655636
        span = await prop(name, "EURange")
        assert (span.Low, span.High) == (0.0, 5.0)
    assert [text.Text for text in await prop("string.A.converter.mode", "EnumStrings")] == [
        "off",
        "standby",
        "current",
        "voltage",
    ]
    flags = await prop("string.A.battery.fault_flags", "OptionSetValues")
    assert [text.Text for text in flags] == ["over-voltage", "1", "2", "weak cell"]
    assert (await prop("string.A.trip.latched", "TrueState")).Text == "tripped"
    description = (await plant.node(client, CURRENT).read_description()).Text
    assert description == "String current, + = discharge [A]. Source: Orion Jr manual"


async def test_every_point_can_be_found_by_browsing(plant, client):
    found: set[str] = set()

    async def browse(node):
        for child in await node.get_children(nodeclassmask=ua.NodeClass.Object | ua.NodeClass.Variable):
            found.add(child.nodeid.Identifier)
            await browse(child)

    await browse(plant.node(client, "gateway"))
    assert {point.name for point in POINTS} <= found
    assert "protocol.lfp_cccv" in found
    root = await client.nodes.objects.get_child(f"{plant.namespace}:testbed")
    assert (await root.read_display_name()).Text == "Hybrid testbed"
    default = plant.node(client, "protocol.lfp_cccv.parameter.at")
    assert await default.read_value() == "12.5 A"
    assert "0.5 to 12.5 A" in (await default.read_description()).Text


async def test_a_number_that_the_type_cannot_carry_is_out_of_range_not_clipped(plant, client):
    plant.writer.set("string.A.battery.fault_flags", -1.0)
    await plant.show()
    data = await plant.node(client, "string.A.battery.fault_flags").read_data_value(raise_on_bad_status=False)
    assert (data.Value.Value, data.StatusCode.name) == (None, "BadOutOfRange")


async def test_no_client_writes_a_point(plant, client):
    plant.writer.set("string.A.converter.current_setpoint", 1.0)
    await plant.show()
    node = plant.node(client, "string.A.converter.current_setpoint")
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await node.write_value(2.0)
    assert refused.value.code == ua.StatusCodes.BadUserAccessDenied
    assert await node.read_value() == 1.0


class Seen:
    """A subscription handler that remembers."""

    def __init__(self) -> None:
        self.values: list[tuple[str, object, str]] = []
        self.arrived = asyncio.Event()

    def datachange_notification(self, node, value, data) -> None:
        self.values.append((node.nodeid.Identifier, value, data.monitored_item.Value.StatusCode.name))
        self.arrived.set()

    async def until(self, entry) -> None:
        async with asyncio.timeout(5):
            while entry not in self.values:
                self.arrived.clear()
                await self.arrived.wait()


async def test_two_clients_see_the_same_changes_at_once(plant):
    async with Client(plant.running.endpoint) as one, Client(plant.running.endpoint) as other:
        seen = [Seen(), Seen()]
        for client, handler in zip((one, other), seen, strict=True):
            subscription = await client.create_subscription(50, handler)
            await subscription.subscribe_data_change([plant.node(client, VOLTAGE), plant.node(client, CURRENT)])
        assert plant.running.sessions == 2
        assert plant.running.subscriptions == 2
        plant.writer.set(VOLTAGE, 3.4)
        plant.writer.set(CURRENT, -2.5)
        await plant.show()
        for handler in seen:
            await handler.until((VOLTAGE, 3.4, "Good"))
            await handler.until((CURRENT, -2.5, "Good"))


async def test_an_unchanged_value_is_not_notified_but_gets_its_newer_time(plant, client, monkeypatch):
    monkeypatch.setattr("gateway.servers.opcua.publisher.REFRESH_S", 0.0)
    plant.writer.set(VOLTAGE, 3.3, time_ns=1_800_000_000_000_000_000)
    await plant.show()
    handler = Seen()
    subscription = await client.create_subscription(20, handler)
    await subscription.subscribe_data_change(plant.node(client, VOLTAGE))
    await handler.until((VOLTAGE, 3.3, "Good"))
    plant.writer.set(VOLTAGE, 3.3, time_ns=1_800_000_005_000_000_000)
    await plant.show()
    data = await plant.node(client, VOLTAGE).read_data_value()
    assert data.SourceTimestamp.isoformat() == "2027-01-15T08:00:05+00:00"
    plant.writer.set(VOLTAGE, 3.5)
    await plant.show()
    await handler.until((VOLTAGE, 3.5, "Good"))
    assert [value for _, value, _ in handler.values] == [3.3, 3.5]


async def test_a_dead_writer_turns_everything_bad_and_the_next_one_brings_it_back(plant, client, monkeypatch):
    service_level = client.get_node(ua.ObjectIds.Server_ServiceLevel)
    plant.writer.set(VOLTAGE, 3.3)
    plant.writer.set("string.A.trip.reason", "none")
    await plant.show()
    assert await service_level.read_value() == 255
    read_at = (await plant.node(client, VOLTAGE).read_data_value()).SourceTimestamp

    with monkeypatch.context() as patch:  # as if the heartbeat had stopped long ago
        patch.setattr("gateway.servers.opcua.publisher.HEARTBEAT_MAX_S", -1.0)
        await plant.publisher.step()
        await plant.publisher.step()
        assert plant.publisher.lost
    for name in INDEX:
        data = await plant.node(client, name).read_data_value(raise_on_bad_status=False)
        assert (data.Value.Value, data.StatusCode.name) == (None, "BadNoCommunication")
    dead = await plant.node(client, VOLTAGE).read_data_value(raise_on_bad_status=False)
    assert dead.SourceTimestamp == read_at
    assert await service_level.read_value() == 0

    again = Writer(plant.run)
    again.set(VOLTAGE, 3.31)
    again.set("string.A.trip.reason", "another")
    again.commit()
    await asyncio.sleep(0.6)  # the reader looks for a new file only when the old one's heartbeat has stopped
    again.commit()
    await plant.publisher.step()
    assert await plant.node(client, VOLTAGE).read_value() == 3.31
    assert await plant.node(client, "string.A.trip.reason").read_value() == "another"
    assert await service_level.read_value() == 255
    assert not plant.publisher.lost


async def test_a_new_writer_is_shown_from_its_first_commit_on(plant, client):
    plant.writer.set(VOLTAGE, 3.3)
    await plant.show()
    await asyncio.sleep(0.6)
    image = ImageWriter(plant.run / "image", layout_hash(POINTS), POINTS)
    await plant.publisher.step()
    assert await plant.node(client, VOLTAGE).read_value() == 3.3
    plant.writer.set(VOLTAGE, 3.4)
    image.commit(plant.writer.columns)
    await plant.publisher.step()
    assert await plant.node(client, VOLTAGE).read_value() == 3.4


async def test_a_writer_that_only_paused_is_shown_again_in_full(plant, client, monkeypatch):
    plant.writer.set(VOLTAGE, 3.3)
    await plant.show()
    with monkeypatch.context() as patch:
        patch.setattr("gateway.servers.opcua.publisher.HEARTBEAT_MAX_S", -1.0)
        await plant.publisher.step()
    await plant.show()
    assert await plant.node(client, VOLTAGE).read_value() == 3.3


async def test_other_points_end_the_publisher(plant):
    await plant.show()
    await asyncio.sleep(0.6)
    Writer(plant.run, (*POINTS, Point(name="site.more")))
    with pytest.raises(LayoutChanged):
        await plant.publisher.step()


async def test_an_overrun_is_counted_and_loses_no_last_value(plant, client):
    await plant.show()
    for number in range(5000):  # more than the ring holds
        plant.writer.set(VOLTAGE, 3.0 + number * 1e-4)
        plant.writer.commit()
    await plant.publisher.step()
    assert await plant.node(client, VOLTAGE).read_value() == pytest.approx(3.4999)
    assert plant.publisher.take_statistics().drops_total == 1


async def test_anonymous_sessions_only_and_never_an_administrator(plant):
    client = Client(plant.running.endpoint)
    client.set_user("admin")
    client.set_password("admin")
    with pytest.raises(ua.UaStatusCodeError):
        await client.connect()
    with contextlib.suppress(ua.UaError, OSError):
        await client.disconnect()


@pytest.mark.parametrize("endpoint", ["opc.tcp://0.0.0.0:4840", "opc.tcp://192.0.2.7:4840", "opc.tcp://gateway.example:4840"])
async def test_an_open_server_refuses_to_be_reachable_from_elsewhere(endpoint):
    methods = Methods(FakeControl(), SystemClock(), role="operator")
    with pytest.raises(NotAllowed, match=r'endpoint = "opc.tcp://127.0.0.1:4840"'):
        async with open_server(published(), endpoint, anonymous=True, methods=methods):
            pass


async def test_a_site_that_forbids_anonymous_sessions_is_refused():
    methods = Methods(FakeControl(), SystemClock(), role="operator")
    with pytest.raises(NotAllowed, match="anonymous = true"):
        async with open_server(published(), "opc.tcp://127.0.0.1:0", anonymous=False, methods=methods):
            pass


async def test_session_timeouts_and_connections_are_capped(plant, client, monkeypatch):
    internal = plant.running.server.iserver
    assert internal.max_session_timeout_ms == LIMITS.session_timeout_ms
    greedy = Client(plant.running.endpoint)
    greedy.session_timeout = 10_000_000
    async with greedy:
        assert plant.running.sessions == 2
        assert greedy.session_timeout == LIMITS.session_timeout_ms
    monkeypatch.setattr(internal, "max_connections", 1)
    with pytest.raises((ConnectionError, TimeoutError, ua.UaError)):
        async with Client(plant.running.endpoint, timeout=1):
            pass


def call(plant, client, method, *arguments):
    request = ua.CallMethodRequest(
        ObjectId=ua.NodeId("site", plant.namespace),
        MethodId=ua.NodeId(f"method.{method}", plant.namespace),
        InputArguments=[argument if isinstance(argument, ua.Variant) else ua.Variant(argument) for argument in arguments],
    )
    return client.uaclient.session.call([request])


async def answer(plant, client, method, *arguments):
    (result,) = await call(plant, client, method, *arguments)
    outputs = [variant.Value for variant in result.OutputArguments or []]
    return result.StatusCode.name, *outputs


async def test_start_run_asks_control_and_returns_its_verdict(plant, client):
    plant.control.answer = {"code": "accepted", "reason": "", "record": 12, "run": "17"}
    found = await answer(plant, client, "StartRun", "lfp_cccv", ["A"], '{"at": "5 A"}')
    assert found == ("Good", "accepted", "", 12, "17")
    arguments = {"protocol": "lfp_cccv", "strings": ["A"], "parameters": {"at": "5 A"}}
    assert plant.control.requests == [("start_run", arguments, "anonymous", "operator")]


@pytest.mark.parametrize(
    ("method", "inputs", "verb", "arguments"),
    [
        ("StartRun", ("lfp_cccv", ["A"], ""), "start_run", {"protocol": "lfp_cccv", "strings": ["A"], "parameters": {}}),
        ("StopRun", ("17",), "stop_run", {"run": "17"}),
        ("StopRun", ("A",), "stop_run", {"run": "A"}),
        ("Stop", (), "stop", {}),
        ("Reset", ("string.A",), "reset", {"scope": "string.A"}),
    ],
)
async def test_every_method_has_its_verb(plant, client, method, inputs, verb, arguments):
    assert (await answer(plant, client, method, *inputs))[:2] == ("Good", "accepted")
    assert [(found, given) for found, given, _, _ in plant.control.requests] == [(verb, arguments)]


async def test_a_refusal_is_a_status_with_a_readable_reason(plant, client):
    plant.control.answer = {"code": "tripped", "reason": "string A is tripped: cell 3 at 3.66 V", "record": 9}
    found = await answer(plant, client, "StartRun", "lfp_cccv", ["A"], "")
    assert found == ("BadInvalidState", "tripped", "string A is tripped: cell 3 at 3.66 V", 9, "")
    refusal = await plant.node(client, "method.LastRefusal").read_value()
    assert refusal == "StartRun: tripped: string A is tripped: cell 3 at 3.66 V"


async def test_a_dead_control_is_an_answer_too(plant, client):
    plant.control.answer = ControlUnavailable
    status, code, reason, *_ = await answer(plant, client, "Stop")
    assert (status, code) == ("BadResourceUnavailable", "unavailable")
    assert "connection refused" in reason


async def test_a_call_never_waits_beyond_its_deadline(plant, client):
    plant.control.delay_s = 5.0
    started = time.monotonic()
    status, code, reason, *_ = await answer(plant, client, "Stop")
    assert (status, code) == ("BadTimeout", "unavailable")
    assert "may still happen" in reason
    assert time.monotonic() - started < 2.0


async def test_an_answer_that_is_no_verdict_is_an_internal_error(plant, client):
    plant.control.answer = ["what"]
    assert (await answer(plant, client, "Stop"))[0] == "BadInternalError"


@pytest.mark.parametrize(
    ("method", "inputs", "status"),
    [
        ("Reset", (), "BadArgumentsMissing"),
        ("Stop", ("now",), "BadTooManyArguments"),
        ("Reset", (3,), "BadInvalidArgument"),
        ("StartRun", ("lfp_cccv", "A", ""), "BadInvalidArgument"),
        ("StartRun", ("lfp_cccv", ["A"], "at = 5 A"), "BadInvalidArgument"),
        ("StartRun", ("lfp_cccv", ["A"], "[1]"), "BadInvalidArgument"),
    ],
)
async def test_wrong_arguments_never_reach_control(plant, client, method, inputs, status):
    assert (await answer(plant, client, method, *inputs))[0] == status
    assert plant.control.requests == []


async def test_a_wrong_type_names_its_argument(plant, client):
    (result,) = await call(plant, client, "StartRun", "lfp_cccv", "A", "")
    assert [status.name for status in result.InputArgumentResults] == ["Good", "BadTypeMismatch", "Good"]


async def test_arguments_are_described(plant, client):
    method = plant.node(client, "method.StartRun")
    inputs = await (await method.get_child("0:InputArguments")).read_value()
    outputs = await (await method.get_child("0:OutputArguments")).read_value()
    assert [argument.Name for argument in inputs] == ["Protocol", "Strings", "Parameters"]
    assert [argument.Name for argument in outputs] == ["Code", "Reason", "Record", "Run"]
    assert all(argument.Description.Text for argument in [*inputs, *outputs])
    assert inputs[1].ValueRank == 1
    site = plant.node(client, "site")
    names = [(await found.read_browse_name()).Name for found in await site.get_methods()]
    assert names == ["StartRun", "StopRun", "Stop", "Reset"]

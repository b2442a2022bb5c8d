"""Turns the model into nodes of the server and knows how each point's value is written into its node.

EURange, EngineeringUnits and the names of states are property nodes; points with equal ones share them (a property may
be the target of several HasProperty references, OPC 10000-3, 4.5), since two property nodes would cost a point twice as
much memory as its variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.points import Quality
from gateway.servers.opcua.model import Shape, names_from_zero
from gateway.servers.opcua.stack import ua
from gateway.servers.opcua.status import QUALITY_STATUS
from gateway.servers.opcua.units import engineering_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncua.server.address_space import AttributeValue
    from asyncua.server.server import Server
    from asyncua.ua.uatypes import NodeId, Variant, VariantType

    from gateway.points import Point
    from gateway.servers.opcua.model import Folder, Variable
    from gateway.servers.opcua.nodes import NodeMaker

_DATA_TYPES: Mapping[Shape, VariantType] = {
    Shape.MEASURED: ua.VariantType.Double,
    Shape.COUNT: ua.VariantType.Int64,
    Shape.TWO_STATE: ua.VariantType.Boolean,
    Shape.MULTI_STATE: ua.VariantType.UInt32,
    Shape.BITS: ua.VariantType.UInt32,
    Shape.TEXT: ua.VariantType.String,
}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the value of one point goes."""

    node_id: NodeId
    attribute: AttributeValue
    """The Value attribute itself, for a refresh that must not look like a change."""
    data_type: VariantType


def build(server: Server, maker: NodeMaker, parent: NodeId, folders: Sequence[Folder], count: int) -> tuple[Slot, ...]:
    """Add the folders with all their points under `parent`; the slots of the `count` points, by their index."""
    builder = _Builder(server, maker)
    for folder in folders:
        builder.add_folder(folder, parent)
    return tuple(builder.slots[index] for index in range(count))


class _Builder:
    def __init__(self, server: Server, maker: NodeMaker) -> None:
        self.slots: dict[int, Slot] = {}
        self._server = server
        self._maker = maker
        self._shared: dict[str, NodeId] = {}

    def add_folder(self, folder: Folder, parent: NodeId) -> None:
        node = self._maker.folder(folder.node_id, parent, folder.browse_name, folder.title, folder.description)
        for child in folder.folders:
            self.add_folder(child, node)
        for variable in folder.variables:
            self._add_variable(variable, node)

    def _add_variable(self, variable: Variable, parent: NodeId) -> None:
        data_type = _DATA_TYPES[variable.shape]
        node = self._maker.variable(
            variable.node_id,
            parent,
            variable.browse_name,
            described(variable.point),
            data_type,
            type_definition(variable.point, variable.shape),
        )
        self._add_properties(node, variable)
        attribute = self._server.iserver.aspace[node].attributes[ua.AttributeIds.Value]
        attribute.value = ua.DataValue(
            ua.Variant(None, ua.VariantType.Null), QUALITY_STATUS[Quality.BAD_WAITING_FOR_INITIAL_DATA]
        )
        self.slots[variable.index] = Slot(node, attribute, data_type)

    def _add_properties(self, node: NodeId, variable: Variable) -> None:
        point = variable.point
        match variable.shape:
            case Shape.MEASURED | Shape.COUNT:
                if point.low is not None and point.high is not None:
                    value = ua.Variant(ua.Range(point.low, point.high), ua.VariantType.ExtensionObject)
                    self._property(node, "EURange", f"{point.low!r}..{point.high!r}", value, ua.ObjectIds.Range)
                if point.unit:
                    value = ua.Variant(engineering_units(point.unit), ua.VariantType.ExtensionObject)
                    self._property(node, "EngineeringUnits", point.unit, value, ua.ObjectIds.EUInformation)
            case Shape.TWO_STATE:
                for number, name in ((0, "FalseState"), (1, "TrueState")):
                    text = point.symbols.get(number, ("false", "true")[number])
                    value = ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText)
                    self._property(node, name, text, value, ua.ObjectIds.LocalizedText)
            case Shape.MULTI_STATE:
                self._names(node, "EnumStrings", point)
            case Shape.BITS if point.symbols:
                self._names(node, "OptionSetValues", point)
            case _:
                return

    def _names(self, node: NodeId, name: str, point: Point) -> None:
        texts = names_from_zero(point.symbols)
        value = ua.Variant([ua.LocalizedText(text) for text in texts], ua.VariantType.LocalizedText, is_array=True)
        self._property(node, name, "|".join(texts), value, ua.ObjectIds.LocalizedText)

    def _property(self, node: NodeId, name: str, key: str, value: Variant, data_type: int) -> None:
        identifier = f"{name}/{key}"
        shared = self._shared.get(identifier)
        if shared is None:
            self._shared[identifier] = self._maker.property(identifier, node, name, value, data_type)
        else:
            self._maker.share_property(node, shared)


def type_definition(point: Point, shape: Shape) -> int:
    """The variable type (OPC 10000-8, 5.3; OPC 10000-5, 7.17) whose mandatory properties the point can fill."""
    match shape:
        case Shape.MEASURED | Shape.COUNT:
            ranged = point.low is not None and point.high is not None
            if point.unit:
                return ua.ObjectIds.AnalogUnitRangeType if ranged else ua.ObjectIds.AnalogUnitType
            return ua.ObjectIds.AnalogItemType if ranged else ua.ObjectIds.BaseDataVariableType
        case Shape.TWO_STATE:
            return ua.ObjectIds.TwoStateDiscreteType
        case Shape.MULTI_STATE:
            return ua.ObjectIds.MultiStateDiscreteType
        case Shape.BITS if point.symbols:
            return ua.ObjectIds.OptionSetType
        case _:
            return ua.ObjectIds.BaseDataVariableType


def described(point: Point) -> str:
    """The description of a point's node: never empty, with the unit and, where it has one, the source."""
    text = point.description or point.name
    if point.unit and point.unit not in text.split():
        text = f"{text} [{point.unit}]"
    return f"{text}. Source: {point.source}" if point.source else text

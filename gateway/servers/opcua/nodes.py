"""Adds nodes to the address space: the few forms of them that we need, each in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.servers.opcua.stack import ua

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncua.server.server import Server
    from asyncua.ua.uaprotocol_auto import Argument, MethodAttributes, NodeClass, ObjectAttributes, VariableAttributes
    from asyncua.ua.uatypes import NodeId, QualifiedName, Variant, VariantType

_READ = ua.AccessLevel.CurrentRead.mask


class NodeMaker:
    """Adds nodes of one namespace. NodeIds are strings; a node that cannot be added raises ua.UaStatusCodeError."""

    def __init__(self, server: Server, namespace: int) -> None:
        self._server = server
        self._namespace = namespace

    def node_id(self, identifier: str) -> NodeId:
        """The NodeId of that string in our namespace."""
        return ua.NodeId(identifier, self._namespace, ua.NodeIdType.String)

    def folder(self, identifier: str, parent: NodeId, browse_name: str, title: str, description: str) -> NodeId:
        """A folder under a folder."""
        attributes = ua.ObjectAttributes()
        attributes.DisplayName = ua.LocalizedText(title)
        attributes.Description = ua.LocalizedText(description)
        return self._add(
            identifier, parent, browse_name, ua.NodeClass.Object, attributes, ua.ObjectIds.Organizes, ua.ObjectIds.FolderType
        )

    def variable(
        self,
        identifier: str,
        parent: NodeId,
        browse_name: str,
        description: str,
        data_type: VariantType,
        type_definition: int,
    ) -> NodeId:
        """A read-only scalar variable that has no value yet."""
        attributes = self._attributes(browse_name, description, ua.NodeId(data_type.value))
        attributes.Value = ua.Variant(None, ua.VariantType.Null)
        attributes.ValueRank = ua.ValueRank.Scalar
        return self._add(
            identifier, parent, browse_name, ua.NodeClass.Variable, attributes, ua.ObjectIds.HasComponent, type_definition
        )

    def text(self, identifier: str, parent: NodeId, browse_name: str, description: str, text: str) -> NodeId:
        """A read-only text with a value of its own."""
        attributes = self._attributes(browse_name, description, ua.NodeId(ua.ObjectIds.String))
        attributes.Value = ua.Variant(text, ua.VariantType.String)
        attributes.ValueRank = ua.ValueRank.Scalar
        return self._add(
            identifier,
            parent,
            browse_name,
            ua.NodeClass.Variable,
            attributes,
            ua.ObjectIds.HasComponent,
            ua.ObjectIds.BaseDataVariableType,
        )

    def property(self, identifier: str, parent: NodeId, browse_name: str, value: Variant, data_type: int) -> NodeId:
        """A property; its browse name lies in namespace 0, as those that the standard defines do."""
        attributes = self._attributes(browse_name, "", ua.NodeId(data_type))
        attributes.Value = value
        attributes.ValueRank = ua.ValueRank.OneDimension if value.is_array else ua.ValueRank.Scalar
        return self._add(
            identifier,
            parent,
            ua.QualifiedName(browse_name, 0),
            ua.NodeClass.Variable,
            attributes,
            ua.ObjectIds.HasProperty,
            ua.ObjectIds.PropertyType,
        )

    def share_property(self, owner: NodeId, shared: NodeId) -> None:
        """Give a node a property that another node has already."""
        reference = ua.AddReferencesItem()
        reference.SourceNodeId = owner
        reference.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasProperty)
        reference.IsForward = True
        reference.TargetNodeId = shared
        reference.TargetNodeClass = ua.NodeClass.Variable
        for status in self._server.iserver.node_mgt_service.add_references([reference]):
            status.check()

    def method(
        self,
        identifier: str,
        parent: NodeId,
        browse_name: str,
        description: str,
        arguments: tuple[Sequence[Argument], Sequence[Argument]],
    ) -> NodeId:
        """A method with its (input, output) arguments; what it does is bound to it separately."""
        attributes = ua.MethodAttributes()
        attributes.DisplayName = ua.LocalizedText(browse_name)
        attributes.Description = ua.LocalizedText(description)
        attributes.Executable = True
        attributes.UserExecutable = True
        method = self._add(identifier, parent, browse_name, ua.NodeClass.Method, attributes, ua.ObjectIds.HasComponent, None)
        for name, listed in zip(("InputArguments", "OutputArguments"), arguments, strict=True):
            if listed:
                value = ua.Variant(list(listed), ua.VariantType.ExtensionObject, is_array=True)
                self.property(f"{identifier}.{name}", method, name, value, ua.ObjectIds.Argument)
        return method

    @staticmethod
    def _attributes(name: str, description: str, data_type: NodeId) -> VariableAttributes:
        attributes = ua.VariableAttributes()
        attributes.DisplayName = ua.LocalizedText(name)
        attributes.Description = ua.LocalizedText(description)
        attributes.DataType = data_type
        attributes.AccessLevel = _READ
        attributes.UserAccessLevel = _READ
        return attributes

    def _add(
        self,
        identifier: str,
        parent: NodeId,
        browse_name: str | QualifiedName,
        node_class: NodeClass,
        attributes: ObjectAttributes | VariableAttributes | MethodAttributes,
        reference_type: int,
        type_definition: int | None,
    ) -> NodeId:
        item = ua.AddNodesItem()
        item.RequestedNewNodeId = self.node_id(identifier)
        item.ParentNodeId = parent
        item.BrowseName = ua.QualifiedName(browse_name, self._namespace) if isinstance(browse_name, str) else browse_name
        item.NodeClass = node_class
        item.ReferenceTypeId = ua.NodeId(reference_type)
        if type_definition is not None:
            item.TypeDefinition = ua.NodeId(type_definition)
        item.NodeAttributes = attributes
        result: Any = self._server.iserver.node_mgt_service.add_nodes([item])[0]
        result.StatusCode.check()
        return item.RequestedNewNodeId

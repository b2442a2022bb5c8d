"""What the address space looks like, as data: a tree of folders with the points in it. Knows no server library.

The NodeId of a point's variable is its name, so it is stable whatever else a site gains or loses; folders are named by
the part of the name that their points share. A folder with more than `CHILDREN_MAX` children is split into numbered
parts, because adding a child costs time in proportion to its siblings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from gateway.points import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.points import Point

CHILDREN_MAX = 100

ROOTS: Mapping[str, tuple[str, str]] = {
    # first part of a point name: (browse name of the folder, description)
    "site": ("Site", "The site as a whole: state, trips, permissives"),
    "string": ("Strings", "Battery strings. Currents and powers are positive in discharge"),
    "grid": ("Grid", "DC bus and the converter to the grid. Current and power are positive towards the grid"),
    "protocol": ("Protocols", "Charge protocols that can be started"),
    "dispatch": ("Dispatch", "Dispatch plan and its setpoints"),
    "alarm": ("Alarms", "Alarms"),
    "interlock": ("Interlocks", "Every cause that trips a string or the site, and its state"),
    "device": ("Devices", "The devices behind the strings and the grid, with their own points, in their own signs"),
    "process": ("Processes", "The processes of the gateway and how they are"),
}

_NUMBERS = re.compile(r"\d+|\D+")


class Shape(Enum):
    """The OPC UA form of a point: its data type, variable type and properties follow from it."""

    MEASURED = auto()
    """A Double with whatever is known of unit and range."""
    COUNT = auto()
    """An Int64."""
    TWO_STATE = auto()
    """A Boolean with the names of its states."""
    MULTI_STATE = auto()
    """A UInt32 with the names of its values, from 0."""
    BITS = auto()
    """A UInt32 with the names of its bits where they are known."""
    TEXT = auto()


_SHAPES: Mapping[Kind, Shape] = {
    Kind.ANALOG: Shape.MEASURED,
    Kind.INTEGER: Shape.COUNT,
    Kind.BOOLEAN: Shape.TWO_STATE,
    Kind.ENUM: Shape.MULTI_STATE,
    Kind.FLAGS: Shape.BITS,
    Kind.TEXT: Shape.TEXT,
}
_LARGEST_ENUM = 255
"""EnumStrings names every number from 0 on; an enumeration with larger numbers is served as a plain number."""


def shape_of(point: Point) -> Shape:
    """The form in which a point is served."""
    shape = _SHAPES[point.kind]
    if shape is Shape.MULTI_STATE and (not point.symbols or not 0 <= min(point.symbols) <= max(point.symbols) <= _LARGEST_ENUM):
        return Shape.COUNT
    return shape


def names_from_zero(symbols: Mapping[int, str]) -> tuple[str, ...]:
    """The names of the numbers 0 to the largest; a number without a name is named by itself."""
    return tuple(symbols.get(number, str(number)) for number in range(max(symbols, default=-1) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One point in the tree; `index` is its place in the image."""

    node_id: str
    browse_name: str
    index: int
    point: Point
    shape: Shape


@dataclass(slots=True, kw_only=True)
class Folder:
    """A folder of folders and points."""

    node_id: str
    browse_name: str
    title: str
    description: str
    folders: list[Folder] = field(default_factory=list["Folder"])
    variables: list[Variable] = field(default_factory=list[Variable])

    def walk(self) -> Iterable[Folder]:
        """The folder itself and all below it, parents first."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


def build(points: Sequence[Point], titles: Mapping[str, str]) -> tuple[Folder, ...]:
    """The top folders, in the order of ROOTS and then by name. `titles` gives folders a name for people, by prefix."""
    taken = {point.name for point in points}
    tops: dict[str, Folder] = {}
    known: dict[str, Folder] = {}
    for index, point in enumerate(points):
        *path, last = point.name.split(".")
        parent = _folder(path or [last], taken, titles, tops, known)
        parent.variables.append(Variable(node_id=point.name, browse_name=last, index=index, point=point, shape=shape_of(point)))
    order = list(ROOTS)
    ordered = sorted(tops, key=lambda name: (order.index(name) if name in ROOTS else len(order), name))
    for top in ordered:
        for folder in list(tops[top].walk()):
            _arrange(folder)
    return tuple(tops[name] for name in ordered)


def _folder(
    path: Sequence[str], taken: set[str], titles: Mapping[str, str], tops: dict[str, Folder], known: dict[str, Folder]
) -> Folder:
    prefix = ".".join(path)
    found = known.get(prefix)
    if found is not None:
        return found
    if len(path) == 1:
        browse_name, description = ROOTS.get(prefix, (prefix.capitalize(), f"Points whose names begin with {prefix}"))
    else:
        browse_name, description = path[-1], f"Points whose names begin with {prefix}"
    folder = Folder(
        node_id=f"{prefix}/" if prefix in taken else prefix,
        browse_name=browse_name,
        title=titles.get(prefix, browse_name),
        description=description,
    )
    known[prefix] = folder
    if len(path) == 1:
        tops[prefix] = folder
    else:
        _folder(path[:-1], taken, titles, tops, known).folders.append(folder)
    return folder


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts cell 2 before cell 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.findall(name)]


def _arrange(folder: Folder) -> None:
    folder.folders.sort(key=lambda child: _natural(child.browse_name))
    if len(folder.folders) + len(folder.variables) <= CHILDREN_MAX:
        return
    parts: list[Folder] = []
    children: list[Folder | Variable] = [*folder.folders, *folder.variables]
    size = max(CHILDREN_MAX, -(-len(children) // CHILDREN_MAX))
    for start in range(0, len(children), size):
        part = children[start : start + size]
        name = f"{start + 1}-{start + len(part)}"
        parts.append(
            Folder(
                node_id=f"{folder.node_id}/{name}",
                browse_name=name,
                title=f"{part[0].browse_name} to {part[-1].browse_name}",
                description=f"A part of {folder.title}",
                folders=[child for child in part if isinstance(child, Folder)],
                variables=[child for child in part if isinstance(child, Variable)],
            )
        )
    folder.folders, folder.variables = parts, []


def empty_root(prefix: str) -> Folder:
    """The top folder of a prefix of ROOTS under which there are no points."""
    browse_name, description = ROOTS[prefix]
    return Folder(node_id=prefix, browse_name=browse_name, title=browse_name, description=description)

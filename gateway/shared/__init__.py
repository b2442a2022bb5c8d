"""The shared image of the table: a memory-mapped file that control writes and any number of processes read.

`layout` says which byte is where, `writer` fills it, `reader` reads it. Values cross without a lock and without a
message, so that no reader, however slow or broken, can hold control up.
"""

from gateway.shared.layout import FORMAT_VERSION, ImageUnavailable, LayoutChanged, layout_hash
from gateway.shared.reader import Changes, Image, ImageReader
from gateway.shared.writer import Columns, ImageWriter

__all__ = [
    "FORMAT_VERSION",
    "Changes",
    "Columns",
    "Image",
    "ImageReader",
    "ImageUnavailable",
    "ImageWriter",
    "LayoutChanged",
    "layout_hash",
]

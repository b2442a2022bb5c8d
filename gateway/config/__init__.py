"""Site files: `load` gives a site that makes sense as a whole, or every mistake at once with file, line and key.

model and quantities are the language; reader and messages turn a document into tables and mistakes into sentences;
checks, transports, periods (with wire), limits, grid and services judge the whole; points and build resolve it.
"""

from __future__ import annotations

from gateway.config.loader import LoadedSite, load, schema

__all__ = ["LoadedSite", "load", "schema"]

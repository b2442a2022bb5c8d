"""The tag database of the control process; see `database` for what always holds."""

from gateway.table.block import Block
from gateway.table.database import Table, fit_text

__all__ = ["Block", "Table", "fit_text"]

"""Devices as they look from their wire: registers, texts and errors, encoded by hand."""

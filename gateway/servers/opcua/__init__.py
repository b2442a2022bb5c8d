"""The OPC UA server: every point with type, unit, range, quality and source time, and methods that ask control.

A process of its own. It reads the resolved site and the shared-memory image that control publishes, and reaches control
only through the control socket; nothing that happens here delays a trip.
"""

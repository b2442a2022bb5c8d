"""The northbound servers: one process each, fed by shared memory, asking control for everything they want moved."""

"""bess-gateway: an edge gateway for hybrid battery storage."""

__version__ = "0.1.0"

"""Charge protocols: the language, its checks, the pure engine that runs it, and the shell around the engine."""

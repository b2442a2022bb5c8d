"""Starts and supervises the processes of a gateway: the simulator where there is one, control, the servers."""

from __future__ import annotations

from gateway.processes.output import LogFiles
from gateway.processes.spec import ProcessSpec, ProcessState, ProcessStatus
from gateway.processes.supervisor import EXIT_GAVE_UP, Supervisor

__all__ = ["EXIT_GAVE_UP", "LogFiles", "ProcessSpec", "ProcessState", "ProcessStatus", "Supervisor"]

"""Modbus requests as bytes, and the check of their answers: MODBUS Application Protocol V1.1b3, clause 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymodbus.constants import ExcCodes
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from gateway.errors import DeviceRefused, FrameError
from gateway.field.map_model import Register
from gateway.field.transports.base import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymodbus.pdu import ModbusPDU

_READS: Mapping[Register, type[ModbusPDU]] = {
    Register.COIL: ReadCoilsRequest,
    Register.DISCRETE: ReadDiscreteInputsRequest,
    Register.HOLDING: ReadHoldingRegistersRequest,
    Register.INPUT: ReadInputRegistersRequest,
}
_EXCEPTION = 0x80
_WRITE_ANSWER_BYTES = 5
"""Function, address, value or count (6.5, 6.6, 6.12)."""
_REASONS: Mapping[int, str] = {int(code): code.name.lower().replace("_", " ") for code in ExcCodes}


def read_request(unit: int, register: Register, address: int, count: int) -> Request:
    """Function 01 to 04, by data table."""
    pdu = _READS[register](address=address, count=count)
    data_bytes = (count + 7) // 8 if register in {Register.COIL, Register.DISCRETE} else 2 * count
    return Request(unit, _bytes(pdu), answer_bytes=2 + data_bytes)


def write_registers_request(unit: int, address: int, data: bytes) -> Request:
    """Function 06 for one register, 16 for more."""
    words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    if len(words) == 1:
        pdu: ModbusPDU = WriteSingleRegisterRequest(address=address, registers=words)
    else:
        pdu = WriteMultipleRegistersRequest(address=address, registers=words)
    return Request(unit, _bytes(pdu), writes=True, answer_bytes=_WRITE_ANSWER_BYTES)


def write_coil_request(unit: int, address: int, *, on: bool) -> Request:
    """Function 05."""
    return Request(
        unit, _bytes(WriteSingleCoilRequest(address=address, bits=[on])), writes=True, answer_bytes=_WRITE_ANSWER_BYTES
    )


def expected_answer(request: Request) -> bytes:
    """The answer PDU to a write that the device accepts: it repeats function, address, and value or count."""
    return request.payload[:_WRITE_ANSWER_BYTES]


def read_data(request: Request, answer: bytes) -> bytes:
    """The data bytes of a read's answer. DeviceRefused for an exception, FrameError when the length is not right."""
    if answer[0] != request.payload[0]:
        _refuse(request, answer)
    if len(answer) != request.answer_bytes or answer[1] != len(answer) - 2:
        msg = f"{len(answer)} bytes answered, {request.answer_bytes} expected"
        raise FrameError(msg)
    return answer[2:]


def check_write(request: Request, answer: bytes) -> None:
    """DeviceRefused for an exception, FrameError when the answer does not repeat the request."""
    if answer[0] != request.payload[0]:
        _refuse(request, answer)
    if answer != expected_answer(request):
        msg = f"answer {answer.hex(' ')} does not repeat the write {request.payload.hex(' ')}"
        raise FrameError(msg)


def _refuse(request: Request, answer: bytes) -> None:
    if answer[0] == request.payload[0] | _EXCEPTION and len(answer) == 2:
        code = answer[1]
        msg = f"refused with exception {code} ({_REASONS.get(code, 'unknown')})"
        raise DeviceRefused(msg, code)
    msg = f"unexpected answer {answer[:16].hex(' ')}"
    raise FrameError(msg)


def _bytes(pdu: ModbusPDU) -> bytes:
    return bytes([pdu.function_code]) + pdu.encode()

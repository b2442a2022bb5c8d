"""Qualities, verdicts and units in OPC UA terms."""

from __future__ import annotations

import pytest
from asyncua import ua

from gateway.commands import Code
from gateway.points import Quality
from gateway.servers.opcua.status import QUALITY_STATUS, VERDICT_STATUS
from gateway.servers.opcua.units import engineering_units, unit_id


@pytest.mark.parametrize("quality", list(Quality))
def test_every_quality_is_the_status_of_the_same_name_and_severity(quality):
    status = QUALITY_STATUS[quality]
    assert status.name == quality.opcua_name
    assert status.is_good() == quality.is_good
    assert status.is_bad() == quality.is_bad


@pytest.mark.parametrize("code", list(Code))
def test_only_an_accepted_verdict_is_good(code):
    assert VERDICT_STATUS[code].is_good() == (code is Code.ACCEPTED)
    assert not VERDICT_STATUS[code].is_uncertain()


@pytest.mark.parametrize(
    ("code", "number"),
    [("VLT", 5655636), ("AMP", 4279632), ("2Z", 12890), ("KWT", 4937556), ("P1", 20529), ("CEL", 4408652), ("HTZ", 4740186)],
)
def test_unit_ids_are_those_of_the_unece_table(code, number):
    assert unit_id(code) == number


def test_units_have_code_symbol_and_name():
    celsius = engineering_units("degC")
    assert (celsius.UnitId, celsius.DisplayName.Text, celsius.Description.Text) == (4408652, "°C", "degree Celsius")
    assert celsius.NamespaceUri == "http://www.opcfoundation.org/UA/units/un/cefact"
    assert engineering_units("Ah").UnitId == 4279624
    slew = engineering_units("A/s")
    assert (slew.UnitId, slew.DisplayName.Text) == (-1, "A/s")
    assert ua.EUInformation is type(slew)

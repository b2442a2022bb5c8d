"""Monitored items hold scalars by reference and everything else as a copy."""

from __future__ import annotations

import pytest
from asyncua import ua
from asyncua.server import monitored_item_service

from gateway.servers.opcua import shared_values

STOCK = monitored_item_service.MonitoredItemValues


@pytest.mark.parametrize("value", [3.3, 7, True, "text", None])
def test_a_scalar_is_held_and_compares_with_the_one_before(value):
    values = shared_values.SharedValues()
    first, second = ua.DataValue(ua.Variant(value)), ua.DataValue(ua.Variant(1.0))
    values.set_current_datavalue(first)
    values.set_current_datavalue(second)
    assert values.get_old_datavalue() is first
    assert values.get_current_datavalue() is second


def test_a_list_that_is_changed_after_it_was_written_still_counts_as_changed():
    values = shared_values.SharedValues()
    data = ua.DataValue(ua.Variant([1.0, 2.0]))
    values.set_current_datavalue(data)
    data.Value.Value.append(3.0)
    values.set_current_datavalue(data)
    assert values.get_old_datavalue().Value.Value == [1.0, 2.0]
    assert values.get_current_datavalue().Value.Value == [1.0, 2.0, 3.0]


def test_the_library_still_copies_so_that_this_is_still_needed():
    data = ua.DataValue(ua.Variant(1.0))
    stock = shared_values.SharedValues.__mro__[1]()
    stock.set_current_datavalue(data)
    assert stock.get_current_datavalue() is not data, "asyncua no longer copies scalars: delete shared_values.py"


def test_it_replaces_the_class_that_monitored_items_use(monkeypatch):
    monkeypatch.setattr(monitored_item_service, "MonitoredItemValues", STOCK)
    shared_values.install()
    assert type(monitored_item_service.MonitoredItemData().mvalue) is shared_values.SharedValues

"""The relay of a wire: pacing, framing of its link; the file with the time factor; the site and plant files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator import line, site_file
from gateway.simulator.simulated_site import SimulatedSite
from gateway.simulator.time_factor import TimeFactorFile
from tests.sim.bench import SITES, Bench

if TYPE_CHECKING:
    from pathlib import Path

CHARACTER_S = 11 / 9600


def test_a_reply_takes_its_time_on_the_line():
    pace = line.Pace(CHARACTER_S)
    pace.put(b"x" * 58, 100.0, whole=False)
    assert pace.due(100.0) == b""
    assert 0 < len(pace.due(100.033)) <= 29
    assert len(pace.due(100.0 + 58 * CHARACTER_S + 1e-9)) >= 29
    assert pace.wait_s(101.0) is None


def test_a_request_arrives_when_its_last_character_has_passed():
    pace = line.Pace(CHARACTER_S)
    pace.put(b":0322F00F\n", 5.0, whole=True)
    assert pace.wait_s(5.0) == pytest.approx(10 * CHARACTER_S)
    assert pace.due(5.0 + 9.9 * CHARACTER_S) == b""
    assert pace.due(5.0 + 10.1 * CHARACTER_S) == b":0322F00F\n"


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=8))
def test_no_byte_is_lost_or_overtakes_another(parts: list[bytes]):
    pace, now, out = line.Pace(CHARACTER_S), 10.0, b""
    for part in parts:
        pace.put(part, now, whole=False)
        now += 0.01
        out += pace.due(now)
    out += pace.due(now + 10.0)
    assert out == b"".join(parts)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 65535), st.binary(max_size=50)), max_size=6), st.integers(1, 9))
def test_the_link_is_cut_into_messages_whatever_the_chunks(messages: list[tuple[int, int, bytes]], size: int):
    data = b"".join(line.frame(*message) for message in messages)
    reader = line.LinkReader()
    found = [message for i in range(0, len(data), size) for message in reader.feed(data[i : i + size])]
    assert found == messages


def test_time_factor_is_one_until_the_file_says_otherwise(tmp_path: Path):
    path = tmp_path / "time_factor"
    assert TimeFactorFile(path).read() == 1.0
    path.write_bytes(struct.pack("<d", 60.0))
    factor = TimeFactorFile(path)
    assert factor.read() == 60.0
    path.write_bytes(b"")
    assert factor.read() == 60.0, "a file in the middle of being written keeps the last value"
    path.write_bytes(struct.pack("<d", 5.0))
    assert factor.read() == 5.0
    path.write_bytes(struct.pack("<d", float("nan")))
    assert factor.read() == 5.0


@pytest.mark.parametrize("site", sorted(path.stem for path in SITES.glob("*_sim.toml")))
def test_every_simulated_site_can_be_built_and_runs(site: str):
    bench = Bench(site)
    bench.advance(2.0, factor=60.0)
    assert (bench.plant.voltage > 1.0).all()
    assert bench.testbed.site.wires


def test_hardware_sites_have_nothing_to_simulate():
    assert not site_file.load(SITES / "testbed.toml").wires


def test_plant_file_overrides_start_and_spread(tmp_path: Path):
    plant = tmp_path / "plant.toml"
    plant.write_text(
        "ambient = 15.0\n[string.B]\nsoc = 0.5\nsoc_offset = [0, 0.1]\nr0_factor = [2.0]\ncapacity_factor = [1, 1, 1, 0.93]\n"
    )
    bench = Bench(plant=plant)
    cells, where = bench.plant.cells, bench.plant.string("B").cells
    assert cells.soc[where] == pytest.approx([0.5, 0.6, 0.5, 0.5, 0.5, 0.5], abs=1e-4)
    assert cells.r0[where][:2] == pytest.approx([6e-3, 3e-3])
    assert cells.capacity_Ah[where][3] == pytest.approx(23.25)
    assert cells.temperature[where] == pytest.approx([15.0] * 6, abs=0.01)


@pytest.mark.parametrize(("text", "value"), [("25 Ah", 25.0), ("500 mV", 0.5), ("24V", 24.0), (7, 7.0), ("5 m", 5.0)])
def test_quantities(text: object, value: float):
    assert site_file.quantity(text) == pytest.approx(value)


def test_a_site_that_cannot_be_simulated_says_why(tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text((SITES / "testbed_sim.toml").read_text().replace('"dab_controlcard"', '"unheard_of"'))
    with pytest.raises(site_file.SiteError, match="no simulated device of map 'unheard_of'"):
        SimulatedSite(site_file.load(site))

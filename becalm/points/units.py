"""The unit of length of a cloud's coordinates, where its file says it, and lengths in that unit as people write them."""

import re
from dataclasses import dataclass
from typing import Any

from becalm.points.cloud import Cloud


@dataclass(frozen=True)
class Unit:
    """A unit of length."""

    symbol: str
    """As written after a number; empty where the unit is not known."""


METRE, FOOT, SURVEY_FOOT, UNKNOWN = Unit("m"), Unit("ft"), Unit("ftUS"), Unit("")

GEOTIFF_UNITS = {9001: METRE, 9002: FOOT, 9003: SURVEY_FOOT}
"""Values of the key ProjLinearUnitsGeoKey (GeoTIFF 1.0, § 6.3.1.3)."""

LINEAR_UNITS_KEY, PROJECTED_SYSTEM_KEY = 3076, 3072


def length_unit(cloud: Cloud) -> Unit:
    """The unit of a cloud's coordinates by its file: E57 is in metres, LAS says it in its coordinate system; else unknown."""
    source = cloud.source
    if source is None or source.format not in ("e57", "las"):
        return UNKNOWN
    return METRE if source.format == "e57" else las_unit(source.header)


def las_unit(header: Any) -> Unit:
    """The unit of a LAS file's projected coordinate system, of its WKT or its GeoTIFF keys (records 2112 and 34735)."""
    records = [*header.vlrs, *(header.evlrs or [])] if hasattr(header, "evlrs") else list(header.vlrs)
    for record in records:
        if record.record_id == 2112:
            return wkt_unit(getattr(record, "string", ""))
    for record in records:
        keys = {key.id: key.value_offset for key in getattr(record, "geo_keys", [])}
        if keys.get(LINEAR_UNITS_KEY) in GEOTIFF_UNITS:
            return GEOTIFF_UNITS[keys[LINEAR_UNITS_KEY]]
        if 32600 < keys.get(PROJECTED_SYSTEM_KEY, 0) <= 32760:  # UTM on WGS 84
            return METRE
    return UNKNOWN


def wkt_unit(text: str) -> Unit:
    """The unit of length of a coordinate system in WKT 1 or 2: that of its projected part."""
    start = max(text.find("PROJCS["), text.find("PROJCRS["))
    if start < 0:
        return UNKNOWN
    end = text.find("VERT", start)
    projected = text[start : end if end > 0 else None]
    found = re.findall(r'UNIT\["[^"]*",\s*([0-9.eE+-]+)', projected)
    lengths = [float(factor) for factor in found if abs(float(factor) - 0.0174532925) > 1e-6]
    known = {"m": 1.0, "ft": 0.3048, "ftUS": 1200 / 3937}
    near = [name for name, factor in known.items() if lengths and abs(lengths[-1] / factor - 1) < 1e-7]
    return Unit(near[0]) if near else UNKNOWN


def format_length(length: float, unit: Unit) -> str:
    """A length with two digits that mean something: "7.1 mm", "0.023 ft", or without a unit "0.0071"."""
    if unit == METRE and length < 0.1:
        return f"{two_digits(1e3 * length)} mm"
    return f"{two_digits(length)} {unit.symbol}".strip()


def two_digits(value: float) -> str:
    """A number rounded to two digits, more before the point, never with an exponent from 10⁻⁶ to 10¹²."""
    if value == 0 or not 1e-6 <= abs(value) < 1e12:
        return f"{value:.2g}"
    digits = max(0, 1 - int(f"{value:e}".split("e")[1]))
    return f"{value:,.{digits}f}"

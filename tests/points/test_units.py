"""Units of length of a file's coordinates, and lengths in words."""

import numpy as np
import pytest

from becalm.points.cloud import Cloud
from becalm.points.units import FOOT, METRE, SURVEY_FOOT, UNKNOWN, format_length, length_unit, wkt_unit

UTM = 'PROJCS["WGS 84 / UTM 33N",GEOGCS["WGS 84",UNIT["degree",0.0174532925199433]],UNIT["metre",1]]'
FEET = f'COMPD_CS["x",{UTM},VERT_CS["h",UNIT["metre",1]]]'.replace('"metre",1]],V', '"foot",0.304800609601219]],V')


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        (UTM, METRE),
        (FEET, SURVEY_FOOT),
        (UTM.replace('"metre",1', '"foot",0.3048'), FOOT),
        ('PROJCRS["a",CS[Cartesian,2],LENGTHUNIT["metre",1.0]]', METRE),
        ('GEOGCS["WGS 84",UNIT["degree",0.0174532925199433]]', UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_the_unit_of_a_coordinate_system(text, unit):
    assert wkt_unit(text) == unit


def test_las_says_its_unit():
    laspy = pytest.importorskip("laspy")
    from laspy.vlrs.known import GeoKeyDirectoryVlr, GeoKeyEntryStruct, WktCoordinateSystemVlr

    las = laspy.create(point_format=6, file_version="1.4")
    las.x = las.y = las.z = np.zeros(3)
    assert length_unit(Cloud.from_laspy(las)) == UNKNOWN
    las.header.vlrs.append(WktCoordinateSystemVlr(FEET))
    assert length_unit(Cloud.from_laspy(las)) == SURVEY_FOOT
    las.header.vlrs.clear()
    keys = GeoKeyDirectoryVlr()
    keys.geo_keys = [GeoKeyEntryStruct(3076, 0, 1, 9002)]
    las.header.vlrs.append(keys)
    assert length_unit(Cloud.from_laspy(las)) == FOOT
    assert length_unit(Cloud(np.zeros((1, 3)))) == UNKNOWN


@pytest.mark.parametrize(
    ("length", "unit", "text"),
    [
        (0.0071234, METRE, "7.1 mm"),
        (0.012, METRE, "12 mm"),
        (1.234, METRE, "1.2 m"),
        (0.0234, FOOT, "0.023 ft"),
        (123.4, UNKNOWN, "123"),
        (0.0, UNKNOWN, "0"),
        (2e-9, UNKNOWN, "2e-09"),
    ],
)
def test_lengths_in_words(length, unit, text):
    assert format_length(length, unit) == text

"""E57 with spherical coordinates, states of both kinds, and groupings."""

import numpy as np
import pytest

from becalm.points import read, write
from becalm.points.formats import e57_nodes

pye57 = pytest.importorskip("pye57")

STATE = (np.arange(60) % 10 == 0).astype(np.uint8)
RANDOM = np.random.default_rng(0)
SPHERICAL = {
    "sphericalRange": RANDOM.random(60) * 10 + 1,
    "sphericalAzimuth": RANDOM.random(60) * 6 - 3,
    "sphericalElevation": RANDOM.random(60) - 0.5,
    "sphericalInvalidState": STATE * 2,
}
CARTESIAN = {f"cartesian{axis}": RANDOM.random(60) for axis in "XYZ"} | {"cartesianInvalidState": STATE}


def e57_of(path, columns, grouped: bool = False) -> None:
    """An E57 file with one scan of these columns."""
    from pye57 import libe57

    image = libe57.ImageFile(str(path), "w")
    e57_nodes.declare_namespaces(libe57, image, ())
    root, scans, node = image.root(), libe57.VectorNode(image, True), libe57.StructureNode(image)
    e57_nodes.set_children(libe57, image, root, e57_nodes.file_tree())
    root.set("data3D", scans)
    root.set("images2D", libe57.VectorNode(image, True))
    e57_nodes.set_children(libe57, image, node, e57_nodes.new_identity())
    if grouped:
        node.set("pointGroupingSchemes", libe57.StructureNode(image))
    scans.append(node)
    e57_nodes.write_points(libe57, image, node, [columns], {}, len(next(iter(columns.values()))))
    image.close()


@pytest.mark.parametrize("columns", [SPHERICAL, CARTESIAN | SPHERICAL])
def test_coordinates_and_states_come_back_as_they_were(tmp_path, columns):
    path, out = tmp_path / "odd.e57", tmp_path / "out.e57"
    e57_of(path, columns)
    cloud = read(path, pytest.fail)
    assert np.array_equal(cloud.measured, STATE == 0)
    write(cloud, out, pytest.fail)
    before, after = (pye57.E57(str(name)).read_scan_raw(0) for name in (path, out))
    assert set(after) == set(columns)
    for name in columns:
        if "cartesianX" not in columns or name not in SPHERICAL:
            assert np.abs(after[name].astype(float) - before[name])[STATE == 0].max() < 1e-12
        if name.endswith("State"):
            assert np.array_equal(after[name], before[name])
    write(cloud.with_positions(cloud.xyz + 0.25), out, pytest.fail)
    assert np.nanmax(np.abs(read(out, pytest.fail).xyz - cloud.xyz - 0.25)) < 1e-12


def test_groupings_that_are_left_out_are_said(tmp_path):
    e57_of(tmp_path / "odd.e57", CARTESIAN, grouped=True)
    with pytest.warns(UserWarning, match="groupings of points of scan 0 are not read, and not written again"):
        read(tmp_path / "odd.e57")

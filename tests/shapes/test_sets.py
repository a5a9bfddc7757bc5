import numpy as np
import pytest

from becalm.core.files import InputError
from becalm.points.mesh import Mesh
from becalm.shapes import lofts, meshfiles, sets


def cube() -> Mesh:
    return lofts.merge([lofts.box((0, 0, 0), (1, 2, 4))])


def corners(mesh: Mesh) -> np.ndarray:
    return np.sort(np.round(mesh.vertices[mesh.faces].reshape(-1, 9), 5), axis=0)


@pytest.mark.parametrize("suffix", meshfiles.WRITERS)
def test_meshes_come_back_as_they_were_written(tmp_path, suffix):
    mesh = cube()
    meshfiles.write(mesh, path := tmp_path / f"shape{suffix}")
    back = meshfiles.read(path)
    assert corners(back) == pytest.approx(corners(mesh), abs=1e-5)


SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
TEXTS = {
    "polygon.obj": "# a square\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\n",
    "negative.obj": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 -2 -1\n",
    "polygon.off": "OFF\n# counts\n4 1 0\n" + SQUARE + "4 0 1 2 3 255 0 0\n",
    "glued.off": "OFF4 1 0\n" + SQUARE + "4 0 1 2 3\n",
    "ascii.stl": "solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 1 1 0\nendloop\nendfacet\n"
    "facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 1 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid x\n",
    "ascii.ply": "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n" + SQUARE + "4 0 1 2 3\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_polygons_become_triangles(tmp_path, name):
    (tmp_path / name).write_text(TEXTS[name])
    mesh = meshfiles.read(tmp_path / name)
    cross = np.cross(*(mesh.vertices[mesh.faces[:, i]] - mesh.vertices[mesh.faces[:, 0]] for i in (1, 2)))
    assert len(mesh.faces) == 2 and cross == pytest.approx(np.array([[0.0, 0, 1]] * 2))


@pytest.mark.parametrize("order", "<>")
def test_binary_ply_of_mixed_polygons(tmp_path, order):
    name = {"<": "little", ">": "big"}[order]
    head = f"ply\nformat binary_{name}_endian 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 2\nproperty uchar flag\nproperty list uchar int vertex_index\nend_header\n"
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], order + "f4").tobytes()
    faces = b"".join(bytes([7, len(f)]) + np.array(f, order + "i4").tobytes() for f in ([0, 1, 2, 3], [0, 1, 2]))
    (tmp_path / "a.ply").write_bytes(head.encode() + vertices + faces)
    assert meshfiles.read(tmp_path / "a.ply").faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


BROKEN = {
    "nan.obj": "v 0 0 nan\nv 1 0 0\nv 1 1 0\nf 1 2 3\n",
    "faceless.obj": "v 0 0 0\nv 1 0 0\n",
    "beyond.obj": "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 9\n",
    "words.obj": "v 0 0 zero\nf 1 1 1\n",
    "short.off": "OFF\n4 2 0\n0 0 0\n",
    "none.off": "hello\n",
    "cut.stl": "solid x\n",
    "points.ply": "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
    "end_header\n0 0 0\n",
    "odd.xyzw": "1 2 3\n",
    "empty.off": "",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_mesh_is_one_line_with_the_file(tmp_path, name):
    (tmp_path / name).write_text(BROKEN[name])
    with pytest.raises(InputError, match=name) as error:
        meshfiles.read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_of_meshes_and_clouds(tmp_path):
    for name in ("a/one.obj", "a/two.stl", "b/three.ply"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        meshfiles.write(cube(), tmp_path / name)
    np.savetxt(tmp_path / "b" / "four.xyz", np.random.default_rng(0).random((50, 3)))
    np.savez(tmp_path / "b" / "five.npz", vertices=cube().vertices, faces=cube().faces)
    shapes = sets.load_folder(tmp_path, 64)
    assert shapes.points.shape == (5, 64, 3) and shapes.points.dtype == np.float32
    assert shapes.classes == ("a", "b") and shapes.labels.tolist() == [0, 0, 1, 1, 1] and shapes.protocol == "box"
    assert np.abs(shapes.points).max(axis=(1, 2)) == pytest.approx(np.ones(5), abs=1e-6)
    raw = sets.load_folder(tmp_path, 400, protocol="raw").points[0]
    near = np.minimum(np.abs(raw), np.abs(raw - [1, 2, 4])).min(axis=1)
    assert near.max() < 1e-6 and raw.max(axis=0) == pytest.approx([1, 2, 4], abs=0.05)
    assert sets.select_classes(shapes, ("b",)).names == ("b/five.npz", "b/four.xyz", "b/three.ply")


def test_a_ply_whose_faces_are_none_is_a_cloud(tmp_path):
    head = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nelement face {}\n"
    for count, mesh in ((0, False), (1, True), (10, True)):
        path = tmp_path / f"{count}.ply"
        path.write_text(head.format(count) + "property list uchar int vertex_indices\nend_header\n1 2 3\n")
        assert sets.is_mesh(path) == mesh
    assert sets.read_shape_points(tmp_path / "0.ply", 2, np.random.default_rng(0)).tolist() == [[1, 2, 3], [1, 2, 3]]


def test_points_without_coordinates_are_no_part_of_a_shape(tmp_path):
    path = tmp_path / "scan.xyz"
    path.write_text("1 2 3\nnan nan nan\n" * 20)
    assert (sets.read_shape_points(path, 50, np.random.default_rng(0)) == [1, 2, 3]).all()


def test_bad_folders_and_requests(tmp_path):
    with pytest.raises(InputError, match="holds no shape"):
        sets.load_folder(tmp_path, 10)
    with pytest.raises(InputError, match="no such folder"):
        sets.load_folder(tmp_path / "absent", 10)
    with pytest.raises(InputError, match="n: -3"):
        sets.load_folder(tmp_path, -3)
    (tmp_path / "x.obj").write_text(BROKEN["nan.obj"])
    with pytest.raises(InputError, match="x.obj.*finite"):
        sets.load_folder(tmp_path, 10)
    with pytest.raises(InputError, match="count: 0"):
        sets.generate_families(0, 10, 0)
    shapes = sets.generate_families(4, 32, 0, ("mug",))
    with pytest.raises(InputError, match="'teapot' is unknown; choose from mug"):
        sets.select_classes(shapes, ("teapot",))
    with pytest.raises(InputError, match="give 1 to 32"):
        sets.thin_points(shapes.points, 33, np.random.default_rng(0))
    with pytest.raises(InputError, match="labels"):
        sets.ShapeSet(shapes.points, shapes.labels + 1, ("mug",), "box")
    with pytest.raises(InputError, match="not finite"):
        sets.ShapeSet(shapes.points * np.float32(np.nan), shapes.labels, ("mug",), "box")


def test_the_two_protocols_are_what_they_say():
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((20, 64, 3)) * [1, 2, 3] + [5, 0, 0]).astype(np.float32)
    shapes = sets.ShapeSet(points, np.zeros(20, np.int64), ("x",), "raw")
    fit = sets.fit_global(shapes)
    whole = fit.apply(shapes)
    assert whole.protocol == "global"
    assert whole.points.mean(axis=(0, 1)) == pytest.approx(
        np.zeros(3), abs=1e-5
    ) and whole.points.std() == pytest.approx(1)
    assert fit.undo(whole).points == pytest.approx(points, abs=1e-4) and fit.undo(whole).protocol == "raw"
    box = sets.normalize_boxes(shapes)
    low, high = box.points.min(axis=1), box.points.max(axis=1)
    assert box.protocol == "box" and (high - low).max(axis=1) == pytest.approx(np.full(20, 2.0), abs=1e-5)
    assert low + high == pytest.approx(np.zeros((20, 3)), abs=1e-5)
    assert sets.normalize_boxes(box).points == pytest.approx(box.points, abs=1e-6)


def test_thinning_draws_without_replacement_and_by_the_seed():
    points = np.arange(5 * 20 * 3, dtype=np.float32).reshape(5, 20, 3)
    thin = sets.thin_points(points, 12, np.random.default_rng(0))
    assert all(len(np.unique(x[:, 0])) == 12 and np.isin(x, y).all() for x, y in zip(thin, points, strict=True))
    assert np.array_equal(thin, sets.thin_points(points, 12, np.random.default_rng(0)))


def test_ldraw_decodes(tmp_path):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 2048, (6, 4096, 3)).astype(np.int64)
    step = np.diff(grid, axis=1, prepend=0).astype("i2")
    code = ((step.astype("i4") << 1) ^ (step.astype("i4") >> 15)).astype("u2").transpose(0, 2, 1)
    path = tmp_path / "parts.npz"
    np.savez(
        path, lo=(code & 255).astype("u1"), hi=(code >> 8).astype("u1"), label=np.array([0, 1, 0, 1, 0, 1], "u1"),
        split=np.array([0, 0, 0, 1, 2, 2], "u1"), classes=np.array(["Brick", "Plate"]), ids=np.array(list("abcdef")),
    )  # fmt: skip
    train, test = sets.load_ldraw(path), sets.load_ldraw(path, "test")
    assert len(train) == 3 and test.names == ("e", "f") and test.labels.tolist() == [0, 1]
    for got, expected in zip(test.points, grid[4:] / 1023.5 - 1, strict=True):
        assert np.sort(got, axis=0) == pytest.approx(np.sort(expected, axis=0), abs=1e-6)
        assert not np.allclose(got, expected, atol=1e-3)  # no longer in the order of the file
    with pytest.raises(InputError, match="no such file"):
        sets.load_ldraw(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match=r"other.npz: is no archive of LDraw parts"):
        sets.load_ldraw(tmp_path / "other.npz")


def test_the_ldraw_parts_themselves(shared):
    shapes = sets.load_ldraw(shared("data/ldraw_parts_4096.npz"), "val")
    assert shapes.points.shape == (239, 4096, 3) and len(shapes.classes) == 31 and shapes.protocol == "box"
    assert np.abs(shapes.points).max() == 1
    assert (
        np.abs(np.abs(shapes.points).max(axis=(1, 2)) - 1).max() < 0.015
    )  # the boxes are those of the parts, which samples do not quite reach
    assert len(sets.select_classes(shapes, ("Brick", "Plate"))) > 10


def test_shapenet_in_pointflows_layout(tmp_path):
    for name in ("train/one", "train/two", "test/three"):
        path = tmp_path / "03001627" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng(0).random((15_000, 3)).astype(np.float32))
    train, test = sets.load_pointflow(tmp_path, "train"), sets.load_pointflow(tmp_path, "test", ("03001627",))
    assert train.points.shape == (2, 10_000, 3) and test.points.shape == (1, 5_000, 3) and train.protocol == "raw"
    with pytest.raises(InputError, match="there are 03001627"):
        sets.load_pointflow(tmp_path, "train", ("02691156",))
    with pytest.raises(InputError, match="holds no shape"):
        sets.load_pointflow(tmp_path, "val")
    other = tmp_path / "02691156" / "train" / "four.npy"
    other.parent.mkdir(parents=True)
    np.save(other, np.zeros((15_000, 3), np.float32))
    train, test = (sets.load_pointflow(tmp_path, part) for part in ("train", "test"))
    assert train.classes == test.classes == ("02691156", "03001627")
    assert test.labels.tolist() == [1], "a class without test shapes keeps its number"
    np.save(tmp_path / "03001627" / "train" / "bad.npy", np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"bad.npy: is \(4, 3\)"):
        sets.load_pointflow(tmp_path, "train")

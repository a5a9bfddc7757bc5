import time

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from becalm.core.files import InputError
from becalm.points.mesh import normals_and_areas, sample
from becalm.shapes import families, lofts
from becalm.shapes.param_reader import ParamReader, choose


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    t = vertices[faces]
    return float(np.einsum("fc,fc->f", t[:, 0], np.cross(t[:, 1], t[:, 2])).sum() / 6)


def pieces(points: np.ndarray, reach: float) -> int:
    """Connected parts of more than 10 points, where points within `reach` hold together."""
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points),) * 2)
    return int((np.bincount(connected_components(links)[1]) > 10).sum())


@pytest.mark.parametrize("name", families.CLASSES)
def test_nothing_floats_and_everything_fits_the_box(name):
    rng = np.random.default_rng(7)
    for _ in range(12):
        shape = families.build_mesh(families.draw_parameters(rng, name), name)
        assert shape.vertices.min() == pytest.approx(-1) and shape.vertices.max() == pytest.approx(1)
        points = sample(shape, 12_000, rng).points
        spread = np.sqrt(normals_and_areas(shape)[1].sum() / len(points))
        assert pieces(points, 2.4 * spread) == 1


@pytest.mark.parametrize("name", families.CLASSES)
def test_every_pair_of_structures_can_be_built(name):
    family, rng = families.FAMILIES[name], np.random.default_rng(3)
    for first in family.first:
        for second in family.second:
            shape = family.build(first, second, ParamReader(rng.random(90)))
            assert normals_and_areas(shape)[1].sum() > 0
    for pair in family.novel:
        assert pair[0] in family.first and pair[1] in family.second


def test_the_corners_of_the_cube_can_be_built():
    for name, family in families.FAMILIES.items():
        for u in (np.zeros(90), np.full(90, 1 - 1e-12)):
            for first in family.first:
                assert len(family.build(first, next(iter(family.second)), ParamReader(u)).faces) > 50


def test_test_and_training_parts_do_not_touch_and_follow_one_law():
    rng = np.random.default_rng(0)
    u = rng.random((20_000, families.PARAMETERS))
    split = np.array([families.split_of(x, "chair") for x in u])
    test, train = u[split == "test"], u[split == "train"]
    assert len(test) / (len(test) + len(train)) == pytest.approx(1 / 8, abs=0.01)
    levels = (families.LEVELS * u[:, families.CELLS]).astype(int)
    cells = [set(map(tuple, levels[split == s])) for s in ("test", "train")]
    assert not cells[0] & cells[1]
    for a, b in ((0, 1), (2, 5)):  # pairs of levels are spread in the test part as evenly as chance has it
        count = np.bincount(8 * levels[split == "test"][:, a] + levels[split == "test"][:, b], minlength=64)
        expected = len(test) / 64
        assert ((count - expected) ** 2 / expected).sum() < 110
    assert np.abs(test.mean(0) - train.mean(0))[2:].max() < 0.03


@pytest.mark.parametrize("name", families.CLASSES)
def test_novel_structures_are_never_met_in_training(name):
    family, rng = families.FAMILIES[name], np.random.default_rng(1)

    def pair(u: np.ndarray) -> tuple[str, str]:
        return choose(family.first, float(u[0])), choose(family.second, float(u[1]))

    assert all(pair(families.draw_parameters(rng, name, "novel")) in family.novel for _ in range(10))
    for split in ("train", "test"):
        assert all(pair(families.draw_parameters(rng, name, split)) not in family.novel for _ in range(50))


def test_points_are_uniform_by_area_and_follow_the_seed():
    one, same, other = (families.sample_family(np.random.default_rng(s), "mug", 500) for s in (1, 1, 2))
    assert one.dtype == np.float32 and one.shape == (500, 3)
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    points, labels = families.sample_batch(np.random.default_rng(0), 5, 64, ("car", "lamp"), "test")
    assert points.shape == (5, 64, 3) and set(labels) <= {0, 1}


def test_shapes_of_a_family_differ():
    shapes = [families.sample_family(np.random.default_rng(s), "table", 400) for s in range(6)]
    trees = [cKDTree(x) for x in shapes]
    apart = [trees[i].query(shapes[j])[0].mean() for i in range(6) for j in range(6) if i != j]
    again = cKDTree(shapes[0]).query(shapes[0] + 0)[0].mean()
    assert min(apart) > again + 0.03


def test_bad_requests_name_the_fix():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="'sofa' is no family; choose from aeroplane, car, chair"):
        families.sample_family(rng, "sofa", 10)
    with pytest.raises(InputError, match="n: 0 points"):
        families.sample_family(rng, "chair", 0)
    with pytest.raises(InputError, match="none given"):
        families.sample_batch(rng, 2, 10, ())


def test_parts_are_closed_and_face_outwards():
    parts = {
        6.0: lofts.box((0, 0, 0), (1, 2, 3)),
        4.0: lofts.beams([[0, 0, 0]], [[0, 1, 0]], 1.0, section=lofts.SQUARE),
        2.0: lofts.box((-1, 0, 0), (1, 1, 1)),
        np.pi: lofts.slab(lofts.superellipse(2, 400), [0, 1]),
    }
    for expected, part in parts.items():
        assert volume(*part) == pytest.approx(expected, rel=1e-3)
        assert volume(*lofts.rotate(part, 1, 0.3)) == pytest.approx(expected, rel=1e-3)
        assert volume(*lofts.mirrored_copies(lofts.translate(part, (9, 0, 0)))) == pytest.approx(2 * expected, rel=1e-3)
        assert volume(*lofts.rotated_copies(part, 3)) == pytest.approx(3 * expected, rel=1e-3)
        edges = np.sort(np.concatenate([part.faces[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_turns_are_right_handed():
    for axis in range(3):
        start, end = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        turned = lofts.rotate(lofts.Piece(start[None], np.zeros((0, 3), int)), axis, np.pi / 2)
        assert turned.vertices[0] == pytest.approx(end, abs=1e-12)


def test_a_shape_takes_milliseconds():
    rng = np.random.default_rng(0)
    families.sample_batch(rng, 6, 2048)
    start = time.process_time()
    families.sample_batch(rng, 60, 2048)
    assert (time.process_time() - start) / 60 < 0.02  # about 0.9 ms without the checks of shapes and a busy machine

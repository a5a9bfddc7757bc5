import numpy as np
import pytest

from becalm.core.files import InputError
from becalm.shapes import lofts, plot

Image = pytest.importorskip("PIL.Image")


def inked(tile: np.ndarray) -> np.ndarray:
    return (tile < 250).any(axis=-1)


def test_up_is_up_and_right_is_right():
    up, right, near = plot.rotate_to_view(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    assert up[1] > 0.9 and abs(up[0]) < 1e-9 and right[0] > 0.5 and near[2] > 0.5
    top = inked(plot.render_points(np.array([[0.0, 0.9, 0]]), 100))
    assert top[:50].any() and not top[50:].any()


def test_the_nearest_hides_the_others():
    towards = np.linalg.solve(plot.rotate_to_view(np.eye(3)).T, np.array([0.0, 0, 1]))
    points, red_first = np.stack([towards, -towards]), np.array([[1.0, 0, 0], [0, 0, 1.0]])
    for order in ([0, 1], [1, 0]):
        tile = plot.render_points(points[order], 101, red_first[order])
        colour = tile[inked(tile)]
        assert len(colour) and (colour[:, 0] > colour[:, 2]).all()


def test_what_faces_the_light_is_brighter():
    patch = np.random.default_rng(0).uniform(-0.5, 0.5, (400, 3)) * [1, 0, 1]
    tiles = [plot.render_points(patch, 100, normals=np.tile(normal, (400, 1))) for normal in ([0.0, 1, 0], [1.0, 0, 0])]
    bright, dark = (tile[inked(tile)].mean() for tile in tiles)
    assert bright > dark + 20


def test_the_whole_cube_is_inside_and_nothing_wraps_round():
    corners = np.stack(np.meshgrid(*[[-1.0, 1]] * 3), -1).reshape(-1, 3)
    assert inked(plot.render_points(corners, 200)).sum() == 8 * 2 * 2
    assert not inked(plot.render_points(corners + 40, 200)).any()


def test_a_grid_puts_tiles_in_rows(tmp_path):
    tiles = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    image = plot.tile_grid(tiles, 2)
    assert image.shape == (8, 8, 3)
    assert image[::4, ::4, 0].tolist() == [[0, 1], [2, 255]]
    with pytest.raises(InputError, match="0 shapes"):
        plot.tile_grid([], 2)
    with pytest.raises(InputError, match="more than"):
        plot.tile_grid([np.zeros((9000, 9000, 3), np.uint8)] * 2, 2)


def test_files_hold_the_shapes(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.7, 0.7, (3, 200, 3))
    given = np.zeros((3, 200), bool)
    plot.draw_clouds(points, tmp_path / "a.png", columns=2, side=80)
    given[0] = True
    plot.draw_clouds(points, tmp_path / "b.png", columns=2, side=80, given=given)
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in "ab")
    assert a.shape == (160, 160, 3)
    assert (a[80:] == b[80:]).all() and (a[:80, 80:] == b[:80, 80:]).all() and not (a[:80, :80] == b[:80, :80]).all()
    first = b[:80, :80][inked(b[:80, :80])]
    assert (first[:, 0] > first[:, 2]).all()  # what was given is orange
    mesh = lofts.merge([lofts.box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))])
    plot.draw_meshes([mesh], tmp_path / "m.png", side=80)
    tile = np.asarray(Image.open(tmp_path / "m.png"))
    assert inked(tile)[30:50, 30:50].mean() > 0.9  # solid, no holes
    plot.draw_clouds(points[:1] / 4, tmp_path / "title.png", given=given[:1], title="1 shape, seed 0")
    titled = inked(np.asarray(Image.open(tmp_path / "title.png")))
    assert titled.shape == (320 + plot.TITLE_HEIGHT, 320) and titled[: plot.TITLE_HEIGHT].any()
    assert np.ptp(np.flatnonzero(titled[plot.TITLE_HEIGHT :].any(axis=0))) > 200  # enlarged to fill its tile
    with pytest.raises(InputError, match="finite"):
        plot.draw_clouds(points * np.nan, tmp_path / "c.png")

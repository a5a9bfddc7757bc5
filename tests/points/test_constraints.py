"""What may move, how far, and along which rays."""

import numpy as np
import pytest

from becalm.points.cloud import Cloud, ScanError
from becalm.points.constraints import Constraints, class_masks, limited_moves
from becalm.points.denoise import iter_denoise_cloud
from becalm.points.progress import DenoiseProgress, final_progress


@pytest.fixture
def sheet() -> Cloud:
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(-1, 1, (900, 2)), 0.02 * rng.standard_normal(900)]
    return Cloud(xyz + [100, 200, 0], {"classification": np.repeat([2, 5, 6], 300).astype(np.uint8)})


class Flatten:
    """A model that puts every point it sees on z = 0, and remembers how many it saw."""

    seen = 0

    def iter_denoise(self, xyz, sigma=None, seed=0):
        self.seen = len(xyz)
        flat = xyz.copy()
        flat[:, 2] = xyz[:, 2].mean()
        yield DenoiseProgress(1.0, flat, np.full(len(xyz), 0.02))


def moved(cloud: Cloud, model: Flatten, constraints: Constraints) -> np.ndarray:
    """The displacements [n, 3] of a denoised cloud."""
    return final_progress(iter_denoise_cloud(cloud, model, constraints=constraints)).xyz - cloud.xyz


def test_points_of_other_classes_are_unseen_and_kept_ones_are_context(sheet):
    model = Flatten()
    seen, movable = class_masks(sheet, [2, 6], None)
    moves = moved(sheet, model, Constraints(seen, movable))
    assert model.seen == 600 and not moves[300:600].any() and moves[:300].any() and moves[600:].any()
    seen, movable = class_masks(sheet, None, [5])
    moves = moved(sheet, model, Constraints(seen, movable))
    assert model.seen == 900 and not moves[300:600].any() and moves[:300].any()


def test_classes_that_are_not_there_are_refused(sheet):
    with pytest.raises(ScanError, match="--only-class 9: no point is of this class; the scan has 2, 5, 6"):
        class_masks(sheet, [9], None)
    with pytest.raises(ScanError, match="no attribute `classification`"):
        class_masks(Cloud(sheet.xyz), None, [2])


def test_no_point_moves_farther_than_it_may(sheet):
    moves = moved(sheet, Flatten(), Constraints(max_displacement=0.01))
    length = np.linalg.norm(moves, axis=1)
    assert length.max() == pytest.approx(0.01) and (length < 0.009).any()
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ScanError, match="--max-displacement"):
            Constraints(max_displacement=wrong)


def test_points_move_along_their_rays_to_the_same_surface(sheet):
    place = np.array([101.0, 200, 3])
    sensors = np.broadcast_to(place, sheet.xyz.shape)
    moves = moved(sheet, Flatten(), Constraints(sensors=sensors))
    rays = sheet.xyz - place
    assert np.linalg.norm(np.cross(moves, rays), axis=1).max() < 1e-9
    assert np.abs((sheet.xyz + moves)[:, 2] - sheet.xyz[:, 2].mean()).max() < 1e-3


def test_without_constraints_moves_are_as_given(sheet):
    moves = np.random.default_rng(1).normal(size=(900, 3))
    assert limited_moves(moves, sheet.local(), Constraints(), np.ones(900, bool), sheet.origin) is moves

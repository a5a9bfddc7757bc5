"""Cutting and joining are inverse and row-major; shrinking is the mean over areas, and undoes enlarging."""

import pytest
import torch

from becalm.images.grid import cut, enlarge, join, shrink


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (4, 4, 1)])
def test_join_undoes_cut(shape):
    images = random(5, *shape)
    assert torch.equal(join(cut(images, 2), shape, 2), images)


def test_patches_and_their_numbers_are_in_row_major_order():
    image = torch.arange(24.0).reshape(1, 4, 6)
    variables = cut(image, 2)
    assert variables.shape == (1, 6, 4)
    assert variables[0, 1].tolist() == [2, 3, 8, 9]
    assert variables[0, 3].tolist() == [12, 13, 18, 19]


def test_colours_of_a_pixel_stay_together():
    image = random(1, 4, 4, 3)
    assert torch.equal(cut(image, 2)[0, 3, 3:6], image[0, 2, 3])


@pytest.mark.parametrize("shape", [(6, 9), (7, 8)])
def test_patches_must_fill_the_image(shape):
    with pytest.raises(ValueError, match="do not fill"):
        cut(random(2, *shape), 2)


def test_join_refuses_the_wrong_number_of_variables():
    with pytest.raises(ValueError, match="need 12 of 4"):
        join(random(2, 11, 4), (6, 8), 2)


def test_shrinking_is_the_mean_of_each_area():
    cells = random(2, 3, 28 * 28)
    small = shrink(cells, 14).reshape(2, 3, 14, 14)
    image = cells.reshape(2, 3, 28, 28)
    torch.testing.assert_close(small[1, 2, 5, 7], image[1, 2, 10:12, 14:16].mean())
    torch.testing.assert_close(shrink(cells, 8).mean(-1), cells.mean(-1), atol=0.02, rtol=0)


@pytest.mark.parametrize("side", [7, 14, 28])
def test_shrinking_undoes_enlarging(side):
    cells = random(2, 3, 49)
    torch.testing.assert_close(shrink(enlarge(cells, side), 7), cells)


def test_enlarging_keeps_a_flat_cell_flat_and_never_mixes_cells():
    cells = torch.stack([torch.full((16,), 0.25), torch.full((16,), -1.0)])[None]
    large = enlarge(cells, 8)
    torch.testing.assert_close(large, cells[..., :1].expand(1, 2, 64))


def test_enlarging_is_smoother_than_repeating_pixels():
    ramp = torch.arange(4.0).repeat(4, 1).reshape(1, 16)
    steps = enlarge(ramp, 8).reshape(8, 8)[4].diff()
    assert steps.max() < 0.9


def test_wrong_directions_and_shapes_are_refused():
    with pytest.raises(ValueError, match="use enlarge"):
        shrink(random(1, 16), 5)
    with pytest.raises(ValueError, match="use shrink"):
        enlarge(random(1, 16), 3)
    with pytest.raises(ValueError, match="no square"):
        shrink(random(1, 15), 3)

"""The bound by pixel: it adds up to what likelihood gives, and bits go where the image is odd."""

import numpy as np

from becalm.tasks.likelihood import likelihood
from becalm.tasks.pixel_cost import pixel_cost, steps
from tests.tasks.image_models import random_images, small_vdm


def test_pixels_add_up_to_the_bits_of_the_image():
    images, model = random_images(20), small_vdm()
    found = pixel_cost(model, images, draws=3, seed=5)
    np.testing.assert_allclose(found.bits_per_dim, likelihood(model, images, draws=3, seed=5).per_image)
    assert found.bits.shape == (20, *model.shape[:2]) and found.gamma.shape == found.loss.shape == (3, 20)


def test_the_loss_over_gamma_adds_up_to_the_diffusion_term():
    """∫ ½E|ε − ε̂|² dγ is the diffusion term, whatever the schedule."""
    images, model = random_images(60), small_vdm()
    curve = pixel_cost(model, images, draws=30).loss_curve(40)
    expected = likelihood(model, images, draws=30).terms["diffusion"].bits
    assert (np.diff(curve[:, 0]) > 0).all()
    assert abs(np.trapezoid(curve[:, 1], curve[:, 0]) / expected - 1) < 0.1


def test_the_schedule_runs_from_clean_to_noise_and_progress_rises():
    *reports, last = steps(small_vdm(), random_images(9), draws=2, batch=4)
    shares = [report.done for report in reports]
    assert shares == sorted(shares) and len(shares) == 6 and last.done == 1
    t, gamma = last.result.schedule.T
    assert t[0] == 0 and t[-1] == 1 and (np.diff(gamma) > 0).all()

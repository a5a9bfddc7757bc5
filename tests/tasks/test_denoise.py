"""`becalm.denoise`: whatever people hold goes in, a result with all that is known of each point comes out."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import becalm
from becalm.core.files import InputError
from becalm.points import Cloud, read, write
from becalm.points.progress import DenoiseProgress
from becalm.systems.jets import Jets
from becalm.systems.sbd import SBD
from becalm.systems.spd import SPD
from becalm.tasks import denoise as task
from becalm.tasks import resample


def noisy_sphere(n: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True) + 0.02 * rng.normal(size=xyz.shape)


class Twice:
    """A model in two passes, each of which halves the distance to the unit sphere."""

    def iter_denoise(self, xyz, sigma=None, seed=0):
        level = np.full(len(xyz), 0.02)
        for done in (0.5, 1.0):
            yield DenoiseProgress(done - 0.1)
            xyz = xyz / 2 + xyz / np.linalg.norm(xyz, axis=1, keepdims=True) / 2
            yield DenoiseProgress(done, xyz, level, level / 2)


@pytest.fixture(scope="module")
def sbd() -> SBD:
    torch.manual_seed(0)
    return SBD({"width": 16, "layers": 1, "channels": 2}, hidden=16).eval()


def test_it_runs_as_a_stranger_would():
    code = "import becalm, numpy as np; r = becalm.denoise(np.random.rand(400, 3)); print(r.report)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = dict(line.split(None, 1) for line in run.stdout.splitlines())
    assert lines["points"] == "400" and len(lines["noise_before"]) < 8


def test_arrays_clouds_and_paths_give_the_same_points(tmp_path):
    xyz = noisy_sphere()
    np.save(tmp_path / "scan.npy", xyz)
    results = [becalm.denoise(p, Twice()) for p in (xyz, xyz.tolist(), Cloud(xyz), tmp_path / "scan.npy")]
    for result in results:
        assert np.array_equal(result.points, results[0].points)
        assert np.array_equal(result.cloud.xyz, result.points)
    origin = results[0].original.origin
    before, after = (np.linalg.norm(p - origin, axis=1) - 1 for p in (xyz, results[0].points))
    np.testing.assert_allclose(after, before / 4, atol=1e-12)


def test_a_result_has_what_is_known_of_each_point_in_order():
    xyz = noisy_sphere()
    xyz[5], xyz[9] = np.nan, 5 * xyz[9]
    result = becalm.denoise(Cloud(xyz, {"id": np.arange(400)}), Twice(), outliers="remove")
    assert result.outlier[9] and not result.outlier[5]
    assert np.array_equal(result.points[9], xyz[9])
    moved = np.linalg.norm(result.points - xyz, axis=1).astype(np.float32)
    assert np.array_equal(result.displacement, moved, equal_nan=True)
    assert result.noise.shape == result.confidence.shape == (400,)
    assert np.isnan(result.noise[[5, 9]]).all()
    assert np.array_equal(result.cloud.attributes["id"], np.flatnonzero(~result.outlier))
    assert result.report.points == 400 and result.report.outliers == result.outlier.sum()
    with pytest.raises(ValueError, match="read-only"):
        result.points[0] = 0


def test_progress_rises_and_its_states_are_positions():
    xyz = noisy_sphere()
    *reports, last = task.steps(xyz, Twice())
    assert [r.done for r in reports] == sorted(r.done for r in reports) and last.done == 1
    assert sum(r.state is not None for r in reports) == 1 and all(r.result is None for r in reports)
    assert np.array_equal(last.state, last.result.points)
    assert "400 points" in repr(last.result) and "outliers" not in repr(last.result)
    page = last.result._repr_html_()
    assert "noise before" in page and "data:image/png;base64" in page


def test_saving_keeps_the_file_s_header_and_details_add_attributes(tmp_path):
    pytest.importorskip("laspy")
    write(Cloud(noisy_sphere(), {"intensity": np.arange(400, dtype=np.uint16)}), tmp_path / "scan.laz")
    result = becalm.denoise(tmp_path / "scan.laz", Twice())
    result.save(tmp_path / "clean.laz")
    result.save(tmp_path / "detailed.laz", details=True)
    plain, detailed = read(tmp_path / "clean.laz"), read(tmp_path / "detailed.laz")
    assert np.array_equal(plain.source.header.scales, result.original.source.header.scales)
    assert np.array_equal(plain.attributes["intensity"], np.arange(400))
    assert "displacement" not in plain.attributes and {"displacement", "noise", "confidence"} <= set(
        detailed.attributes
    )
    with pytest.raises(InputError, match="input itself"):
        result.save(tmp_path / "scan.laz")


def test_rule_steps_and_uncertainty_are_sbd_s(sbd):
    xyz = noisy_sphere()
    with torch.no_grad():
        sbd.head.network[-1].weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    mean, flow = (becalm.denoise(xyz, sbd, rule=rule, steps=2) for rule in ("mean", "flow"))
    assert not np.array_equal(mean.points, flow.points)
    expected = [*sbd.iter_denoise(np.unique(xyz - mean.original.origin, axis=0), steps=2, rule="flow")][-1]
    order = np.unique(xyz - mean.original.origin, axis=0, return_inverse=True)[1].reshape(-1)
    np.testing.assert_allclose(flow.original.local() + (flow.points - xyz), expected.xyz[order], atol=1e-9)
    result = becalm.denoise(xyz, sbd, uncertainty=3)
    assert result.uncertainty.shape == (400,) and (result.uncertainty > 0).all()
    assert "uncertainty" in result.detailed_cloud.attributes and mean.uncertainty is None
    for options in ({"rule": "mean"}, {"steps": 2}, {"uncertainty": 2}):
        with pytest.raises(InputError, match="Twice"):
            becalm.denoise(xyz, Twice(), **options)


@pytest.mark.parametrize("options", [{"uncertainty": 1}, {"uncertainty": -2}, {"steps": 0}, {"device": "abacus"}])
def test_options_out_of_range_are_refused(sbd, options):
    with pytest.raises(InputError, match=f"--{next(iter(options))}"):
        becalm.denoise(noisy_sphere(), sbd, **options)


@pytest.mark.parametrize("model", ["nonesuch", "mnist"])
def test_what_does_not_denoise_clouds_is_refused(model):
    with pytest.raises(InputError):
        becalm.denoise(noisy_sphere(), model)


def test_an_error_about_points_names_their_file(tmp_path):
    np.save(tmp_path / "few.npy", np.eye(3))
    with pytest.raises(InputError, match=r"few\.npy: 3 distinct"):
        becalm.denoise(tmp_path / "few.npy", Twice())
    with pytest.raises(InputError, match="^3 distinct"):
        becalm.denoise(np.eye(3), Twice())


def test_spd_as_published_resamples(tmp_path):
    torch.manual_seed(0)
    model = SPD(hidden=16, blocks=1).eval()
    xyz = noisy_sphere() + 1000
    *_, last = resample.steps_as_published(xyz, model, ascent_steps=2, alpha=0.1)
    assert last.result.points.shape == (400, 3) and abs(last.result.points.mean() - 1000) < 1
    assert set(last.result.report) == {"points", "noise_before", "noise_after"}
    assert "400" in repr(last.result)
    with pytest.raises(InputError, match="--mode paper is SPD's"):
        [*resample.steps_as_published(xyz, Jets(width=16, layers=1))]


def test_the_summary_tells_what_the_file_holds(tmp_path):
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(version="1.2", point_format=0)
    header.scales = [0.05] * 3
    las = laspy.LasData(header)
    las.xyz = np.random.default_rng(0).random((600, 3)) * [3, 3, 0.004]
    las.write(tmp_path / "scan.las")
    result = becalm.denoise(tmp_path / "scan.las")
    moved = np.where(result.original.measured[:, None], result.original.xyz + [0, 0, 0.002], 0)
    result = replace(result, progress=result.progress._replace(xyz=moved, error=np.full(600, 0.001)))
    written = result.as_written(tmp_path / "out.las")
    assert np.array_equal(written.points, result.original.xyz)
    assert written.report.displacement_max == 0
    assert np.allclose(written.progress.error, np.hypot(0.001, 0.002 / np.sqrt(3)))
    fine = result.as_written(tmp_path / "out.las", scale=0.001)
    assert np.allclose(fine.points, moved, atol=1e-9)
    with pytest.warns(UserWarning, match="--scale 0.0001 keeps them"):
        result.save(tmp_path / "out.las")
    result.save(tmp_path / "fine.las", scale=0.001, warn=pytest.fail)

"""Clouds that must not be denoised as they are: coordinates in degrees, and Gaussian splats."""

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.decimals import count_decimals

SPLAT = ("f_dc_0", "scale_0", "rot_0")
"""Attributes of a Gaussian splat: colour, size and orientation (Kerbl et al., "3D Gaussian Splatting", 2023)."""

THINNEST = 1000
"""Height over width from which a cloud is taken to be in degrees: 1 m is a 111 000th of a degree, and wires are thicker."""

SAMPLE = 500
"""Points whose decimals are counted."""


def check_suitable(cloud: Cloud) -> None:
    """Raise ScanError for a cloud in degrees, in which distances mean nothing, and for Gaussian splats."""
    if set(SPLAT) <= set(cloud.attributes):
        raise ScanError(
            f"holds Gaussian splats ({', '.join(SPLAT)}): a scene breaks when centres move and sizes and turns do not; "
            "denoise the points it was made from, or say --force"
        )
    if is_in_degrees(cloud):
        raise ScanError(
            "x and y are degrees, in which distances mean nothing; project them to metres first (UTM here is "
            f"EPSG:{utm_zone(cloud)}: pdal translate IN OUT reprojection --filters.reprojection.out_srs=EPSG:{utm_zone(cloud)}), "
            "or say --force if they are none"
        )


def is_in_degrees(cloud: Cloud) -> bool:
    """Whether x and y are a longitude and a latitude: the file says so, or their ranges and decimals do.

    Ranges and decimals say so where x and y have six or more decimals, z ranges over far larger numbers than they, and z has
    at least two decimals fewer, or a range a thousand times theirs while they are far from zero.
    """
    xyz = cloud.xyz[cloud.measured]
    if len(xyz) == 0 or np.abs(xyz[:, :2]).max() > 180 or np.abs(xyz[:, :2]).max(axis=0).min() > 90:
        return False
    if cloud.source is not None and cloud.source.degrees:
        return True
    extent = np.ptp(xyz, axis=0)
    if len(xyz) < 16 or not 0 < max(extent[:2]) < min(5, extent[2] / 20):
        return False
    some = xyz[:: max(1, len(xyz) // SAMPLE)]
    flat = min(count_decimals(some[:, 0]), count_decimals(some[:, 1]))
    thin = extent[2] > THINNEST * max(extent[:2]) and np.abs(np.median(xyz[:, :2], axis=0)).max() > 100 * max(
        extent[:2]
    )
    return flat >= 6 and (bool(thin) or count_decimals(some[:, 2]) <= flat - 2)


def utm_zone(cloud: Cloud) -> int:
    """The EPSG number of the UTM zone (WGS 84) at the middle of a cloud in degrees."""
    x, y = np.median(cloud.xyz[cloud.measured][:, :2], axis=0)
    return (32600 if y >= 0 else 32700) + int((x + 180) % 360 // 6) + 1

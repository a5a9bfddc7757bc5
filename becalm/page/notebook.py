"""A scan in a notebook: `becalm.view(result)` shows it before and after under one camera, as the page does."""

from pathlib import Path
from typing import Any

from becalm.core.files import InputError
from becalm.page.bundle import bundle_arrays, encode_bundle
from becalm.points.cloud import Cloud
from becalm.tasks.denoise import DenoiseResult

MOST_SENT = 300_000
"""Points that are sent to the notebook at most, which keeps them in its file; of a larger scan an even random part is."""


def view(result: Any, height: int = 420) -> Any:
    """A widget (anywidget) of a denoised scan, before and after with a swipe between them, or of a scan alone.

    `result` is what `becalm.denoise` gives, or a cloud: a path, an array [n, 3], or an object that `denoise` takes. `height` is
    in pixels. Raises InputError for anything else, ModuleNotFoundError without the extra `notebook`.
    """
    import anywidget
    import traitlets

    class ScanView(anywidget.AnyWidget):
        """The widget: a bundle of the page (see `becalm.page.bundle`), drawn by the page's own script."""

        _esm = Path(__file__).parent / "static" / "page.js"
        bundle = traitlets.Bytes().tag(sync=True)
        height = traitlets.Int().tag(sync=True)

    return ScanView(bundle=scan_bundle(result), height=height)


def scan_bundle(result: Any) -> bytes:
    """What the widget draws of a denoised scan or of a cloud. Raises InputError for anything else."""
    from becalm.page.worker import cloud_facts
    from becalm.points.interop import as_cloud

    if isinstance(result, DenoiseResult):
        cloud, states = result.original, [result.original.xyz, result.points]
        attributes = result.attributes | ({"outlier": result.outlier} if result.outlier.any() else {})
    elif hasattr(result, "summary") or hasattr(result, "facts"):
        raise InputError(f"view: shows scans; a {type(result).__name__} shows its own picture as a cell's last line")
    else:
        cloud, attributes = result if isinstance(result, Cloud) else as_cloud(result), {}
        states = [cloud.xyz]
    return encode_bundle(bundle_arrays(cloud, states, attributes, MOST_SENT), cloud_facts(cloud))

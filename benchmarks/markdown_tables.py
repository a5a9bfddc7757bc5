"""Rows of the benchmark as Markdown: means over shapes, and one method beside another on the shapes both have."""

from collections.abc import Iterable

import numpy as np

COLUMNS = {
    "chamfer": ("CD ×10⁴", "{:.3f}", 1),
    "surface": ("one-way P2M ×10⁴", "{:.3f}", 1),
    "surface_own": ("the same, own points", "{:.3f}", 1),
    "edge": ("at edges ×10⁴", "{:.3f}", 1),
    "rmse": ("RMSE by index %", "{:.2f}", 100),
    "hausdorff_95": ("Hausdorff 95 %", "{:.2f}", 100),
    "shrinkage": ("shrinkage %", "{:+.3f}", 100),
    "unevenness": ("unevenness", "{:.2f}", 1),
    "displacement": ("median move %", "{:.3f}", 100),
    "cpu_seconds": ("CPU s", "{:.2f}", 1),
}
"""Of each figure: its heading, its format and its factor; lengths are printed in per cent of the radius."""

PLAIN = {"kind": "gaussian", "density": "even", "outliers": 0.0}
"""What a row that does not say is about."""


def cell_of(row: dict) -> tuple:
    """What rows of one line of a table share."""
    return row["points"], row["kind"], row["density"], row["outliers"], row["noise"]


def table(rows: list[dict], methods: Iterable[str]) -> str:
    """Means over shapes, a line a method and cell; a figure that some shapes lack is the mean of those that have it."""
    stray = any(row["outliers"] for row in rows)
    shown = [name for name in COLUMNS if name != "surface_own" or stray]
    lines = [
        "| cloud | method | shapes | " + " | ".join(COLUMNS[name][0] for name in shown) + " | peak MB |",
        "|---" * (len(shown) + 4) + "|",
    ]
    for cell in sorted({cell_of(r) for r in rows}):
        for method in methods:
            some = [r for r in rows if cell_of(r) == cell and r["method"] == method]
            if some:
                values = " | ".join(mean(some, name) for name in shown)
                peak = max(r["peak_mb"] for r in some)
                lines.append(f"| {described(cell)} | {method} | {len(some)} | {values} | {peak:,.0f} |")
    return "\n".join(lines)


def described(cell: tuple) -> str:
    """A cell in words."""
    points, kind, density, outliers, noise = cell
    words = [f"{points:,}", f"{100 * noise:g} % {kind.replace('_', ' ')}"]
    return ", ".join(words + ["uneven"] * (density != "even") + [f"{outliers:.0%} outliers"] * (outliers > 0))


def mean(rows: list[dict], name: str) -> str:
    """The mean of a figure over the rows that have it, printed; a dash where none has."""
    _, form, factor = COLUMNS[name]
    values = [row[name] for row in rows if row.get(name) is not None]
    return form.format(factor * np.mean(values)) if values else "–"


def ratios(rows: list[dict], methods: Iterable[str], against: str) -> str:
    """CD, one-way P2M and points per CPU-second of methods, as multiples of another's, on the shapes both have.

    Ratios of means over shapes; after CD and P2M, in brackets, the 2.5 and 97.5 per cent points over 2 000 resamples of the
    shapes (the same shapes for both).
    """
    lines = [
        f"| cloud | against {against} | shapes | CD | one-way P2M | points per CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for cell in sorted({cell_of(r) for r in rows}):
        found = {
            m: {r["shape"]: r for r in rows if cell_of(r) == cell and r["method"] == m} for m in (*methods, against)
        }
        for method in methods:
            common = sorted(found[method].keys() & found[against].keys())
            if common:
                ours, theirs = ([found[m][shape] for shape in common] for m in (method, against))
                quality = " | ".join(ratio(ours, theirs, name) for name in ("chamfer", "surface"))
                speed = sum(r["cpu_seconds"] for r in theirs) / max(sum(r["cpu_seconds"] for r in ours), 1e-9)
                lines.append(f"| {described(cell)} | {method} | {len(common)} | {quality} | {speed:.1f} × |")
    return "\n".join(lines)


def ratio(ours: list[dict], theirs: list[dict], name: str) -> str:
    """The ratio of the means of a figure, and its bootstrap interval."""
    pairs = np.array([(a[name], b[name]) for a, b in zip(ours, theirs, strict=True)])
    draws = np.random.default_rng(0).integers(len(pairs), size=(2000, len(pairs)))
    means = pairs[draws].mean(axis=1)
    low, high = np.quantile(means[:, 0] / means[:, 1], (0.025, 0.975))
    return f"{pairs[:, 0].mean() / pairs[:, 1].mean():.3f} [{low:.2f}, {high:.2f}]"

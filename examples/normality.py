"""Draw why the target is the paired ε: over the noise level it is Gaussian, the way from the nearest clean point is not."""

from pathlib import Path

import numpy as np

from becalm.points.neighbours import knn
from becalm.points.normality import Normality, jarque_bera

TARGET = Path("docs/images/normality.png")
POINTS, SIGMA = 20_000, 0.02


def main() -> None:
    """Write the picture and print the figures."""
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((POINTS, 3))
    clean /= np.linalg.norm(clean, axis=1, keepdims=True)
    noisy = clean + SIGMA * rng.standard_normal(clean.shape)
    nearest = clean[knn(clean, 1, noisy)[1][:, 0]]
    targets = {"paired by index": noisy - clean, "nearest clean point": noisy - nearest}
    tested = {name: (offset.ravel() / SIGMA, jarque_bera(offset / SIGMA)) for name, offset in targets.items()}
    for name, (_, found) in tested.items():
        print(f"{name:20} JB {found.statistic:9.1f}  p {found.p:.2g}  kurtosis {found.kurtosis:.2f}")
    draw(tested, TARGET)


def draw(tested: dict[str, tuple[np.ndarray, Normality]], path: Path) -> None:
    """Histogram and quantiles of each target [n] against the standard normal law, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for column, (name, (values, found)) in zip(figure.subplots(2, 2).T, tested.items(), strict=True):
        histogram(column[0], values)
        quantiles(column[1], values)
        verdict = f"p = {found.p:.2f}" if found.p > 0.005 else "p < 0.005"
        column[0].set_title(f"{name}\nJarque-Bera {found.statistic:,.1f}, {verdict}, deviation {values.std():.2f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def histogram(panel, values: np.ndarray) -> None:
    """The density of the values [n] beside the normal one."""
    grid = np.linspace(-4.5, 4.5, 300)
    panel.hist(values, bins=90, range=(-4.5, 4.5), density=True, color="#8fb8de", label="targets")
    panel.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color="#333333", label="standard normal")
    panel.set(xlabel="target / σ, all coordinates", ylabel="density", xlim=(-4.5, 4.5), ylim=(0, 0.85))
    panel.legend(frameon=False)


def quantiles(panel, values: np.ndarray, shown: int = 400) -> None:
    """Quantiles of the values [n], at their own deviation, over those of the normal law."""
    from scipy.stats import norm

    share = norm.cdf(np.linspace(-4, 4, shown))
    panel.plot(norm.ppf(share), np.quantile(values / values.std(), share), ".", markersize=3, color="#2f6fab")
    panel.axline((0, 0), slope=1, color="#333333", linewidth=0.8)
    panel.set(xlabel="normal quantile", ylabel="target quantile / deviation", xlim=(-4.2, 4.2), ylim=(-6.5, 6.5))


if __name__ == "__main__":
    main()

"""Where 0.044715 and 1.702 come from: deriving the approximations of GELU.

GELU is x Phi(x), Phi being the distribution function of the standard normal
distribution. Before erf was at hand everywhere, two elementary functions stood in:

    tanh:     x/2 (1 + tanh(sqrt(2/pi) (x + a x^3))),    usually a = 0.044715,
    sigmoid:  x sigmoid(b x),                            usually b = 1.702.

The factor sqrt(2/pi) gives Phi the right slope at 0. This program fits a and b by

    series:    matching the next term of Phi's power series (a) or its slope at 0 (b),
    squares:   the least integral of the squared error,
    minimax:   the least maximum of the error,

each for the error of Phi itself and of x Phi(x), prints how large the errors are, and
draws functions and errors. Everything is computed in float64 with NumPy.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Beyond 8, 1 - Phi is under 1e-15: there is no error to be seen.
GRID = np.linspace(0, 8, 16001)
FORMS = ("tanh", "sigmoid")
CRITERIA = ("series", "squares", "minimax")
OFFICIAL = {"tanh": 0.044715, "sigmoid": 1.702}


def normal_distribution(x: np.ndarray) -> np.ndarray:
    """Phi(x), by the complementary error function."""
    return np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2


def approximation(form: str, parameter: float, x: np.ndarray) -> np.ndarray:
    """The approximation of Phi(x) with a given parameter.

    Args:
        form: `"tanh"` or `"sigmoid"`.
        parameter: a or b.
        x: float array of any shape.

    Example:
        >>> approximation("sigmoid", 1.702, np.array([0.0]))
        array([0.5])
    """
    if form == "tanh":
        u = math.sqrt(2 / math.pi) * (x + parameter * x**3)
        return (1 + np.tanh(u)) / 2
    return 1 / (1 + np.exp(-parameter * x))


def error(form: str, parameter: float, weighted: bool) -> np.ndarray:
    """Error of Phi on the grid, or with `weighted` of x Phi(x).

    Half the line is enough: the error of Phi is odd, that of x Phi(x) even.
    """
    difference = approximation(form, parameter, GRID) - PHI
    return GRID * difference if weighted else difference


PHI = normal_distribution(GRID)


def by_series(form: str) -> float:
    """The parameter that matches the power series of Phi at 0.

    With c = sqrt(2/pi), 2 Phi(x) - 1 = c (x - x^3/6 + ...). The tanh form gives
    c x + (c a - c^3/3) x^3 + ..., hence a = c^2/3 - 1/6 = (4 - pi)/(6 pi). The sigmoid
    form has 2 sigmoid(b x) - 1 = b x/2 - ..., hence b = 2 c.
    """
    if form == "tanh":
        return (4 - math.pi) / (6 * math.pi)
    return 2 * math.sqrt(2 / math.pi)


def smallest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is smallest, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if function(left) < function(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def fit(form: str, criterion: str, weighted: bool) -> float:
    """The parameter that a criterion finds.

    Args:
        form: `"tanh"` or `"sigmoid"`.
        criterion: `"series"`, `"squares"` or `"minimax"`.
        weighted: whether the error is that of x Phi(x) rather than of Phi.

    Example:
        >>> round(fit("tanh", "series", False), 6)
        0.04554
    """
    if criterion == "series":
        return by_series(form)
    measure = np.mean if criterion == "squares" else np.max
    bounds = (0.02, 0.08) if form == "tanh" else (1.2, 2.2)

    def loss(parameter):
        return measure(np.square(error(form, parameter, weighted)))

    return smallest(loss, *bounds)


def table() -> list[dict]:
    """One row a fit, and one for each official number, with their largest errors."""
    rows = []
    for form in FORMS:
        found = [
            (f"{criterion}, {'x Phi' if weighted else 'Phi'}", criterion, weighted)
            for criterion in CRITERIA
            for weighted in ((False,) if criterion == "series" else (False, True))
        ]
        fits = [(name, fit(form, c, weighted)) for name, c, weighted in found]
        for name, parameter in [("in use", OFFICIAL[form]), *fits]:
            rows.append(
                {
                    "form": form,
                    "criterion": name,
                    "parameter": parameter,
                    "phi": np.abs(error(form, parameter, False)).max(),
                    "gelu": np.abs(error(form, parameter, True)).max(),
                }
            )
    return rows


def print_table(rows: list[dict]) -> None:
    """The table, and what it says."""
    print(f"{'form':8} {'criterion':15} {'parameter':>10} ", end="")
    print(f"{'max |Phi error|':>16} {'max |GELU error|':>17}")
    for row in rows:
        print(
            f"{row['form']:8} {row['criterion']:15} {row['parameter']:10.6f} "
            f"{row['phi']:16.2e} {row['gelu']:17.2e}"
        )
    print()
    for form in FORMS:
        mine = [row for row in rows if row["form"] == form]
        fits = [row for row in mine if row["criterion"] != "in use"]
        near = min(fits, key=lambda r: abs(r["parameter"] - OFFICIAL[form]))
        best = min(fits, key=lambda row: row["gelu"])
        print(
            f"{form}: the number in use, {OFFICIAL[form]}, is closest to the fit by "
            f"{near['criterion']} ({near['parameter']:.6f}). The least error of GELU, "
            f"by {best['criterion']}, is {mine[0]['gelu'] / best['gelu']:.2f} times "
            "less than with the number in use."
        )


def draw(rows: list[dict], path: Path) -> None:
    """Functions, and errors of GELU on logarithmic and linear scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    x = np.concatenate([-GRID[:8001][::-1], GRID[:8001]])
    axes[0].plot(x, x * normal_distribution(x), "k", label=r"$x\,\Phi(x)$")
    styles = {"tanh": "C0--", "sigmoid": "C1:"}
    for form, style in styles.items():
        label = f"{form}, {OFFICIAL[form]}"
        axes[0].plot(x, x * approximation(form, OFFICIAL[form], x), style, label=label)
    axes[0].set(title="GELU and its approximations", xlabel="x", ylim=(-0.5, 3))
    axes[0].set_xlim(-4, 3)
    for axis, form in zip(axes[1:], FORMS, strict=True):
        for row in rows:
            # The fits to Phi itself end at the numbers in use: their curves coincide.
            fits_phi = row["criterion"] in ("squares, Phi", "minimax, Phi")
            if row["form"] == form and not fits_phi:
                label = f"{row['criterion']}: {row['parameter']:.6g}"
                width = 2.2 if row["criterion"] == "in use" else 1
                values = 1e3 * error(form, row["parameter"], True)
                axis.plot(GRID, values, label=label, linewidth=width)
        axis.axhline(0, color="grey", linewidth=0.5)
        axis.set(title=f"error of the {form} form of GELU", xlabel="x", xlim=(0, 5))
        axis.set_ylabel("error, thousandths")
    for axis in axes:
        axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Fit, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--figure",
        type=Path,
        default=Path("gelu_approximations.png"),
        help="where the figure goes (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    rows = table()
    print_table(rows)
    draw(rows, options.figure)
    print(f"\nThe curves are in {options.figure}.")


if __name__ == "__main__":
    main()

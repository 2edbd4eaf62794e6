import math

import gelu_approximations as example
import numpy as np
import pytest

pytestmark = pytest.mark.pure


@pytest.fixture(scope="module")
def rows():
    return example.table()


def value(rows, form, criterion, column="parameter"):
    (row,) = (r for r in rows if (r["form"], r["criterion"]) == (form, criterion))
    return row[column]


def test_the_numbers_in_use_are_the_minimax_fits_of_the_distribution(rows):
    assert value(rows, "tanh", "minimax, Phi") == pytest.approx(0.044715, abs=1e-6)
    assert value(rows, "sigmoid", "minimax, Phi") == pytest.approx(1.702, abs=5e-4)


@pytest.mark.parametrize("form", example.FORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_fits_are_best_by_their_own_criterion(rows, form, weighted):
    name = "x Phi" if weighted else "Phi"
    for criterion, measure in (("squares", np.mean), ("minimax", np.max)):
        fitted = value(rows, form, f"{criterion}, {name}")
        least = measure(example.error(form, fitted, weighted) ** 2)
        for parameter in np.linspace(0.97, 1.03, 41) * fitted:
            other = measure(example.error(form, parameter, weighted) ** 2)
            assert other >= least * (1 - 1e-9)


def test_the_series_cancels_the_next_term():
    """Near 0 the error falls with the next power: x^5 for tanh, x^3 for the sigmoid."""
    for form, power in (("tanh", 5), ("sigmoid", 3)):
        parameter = example.by_series(form)
        x = np.array([0.1, 0.2])
        errors = example.approximation(form, parameter, x)
        errors = errors - example.normal_distribution(x)
        assert math.log2(errors[1] / errors[0]) == pytest.approx(power, abs=0.2)


def test_largest_errors_by_a_finer_grid(rows):
    x = np.linspace(-8, 8, 100_001)
    phi = example.normal_distribution(x)
    for row in rows:
        found = example.approximation(row["form"], row["parameter"], x)
        assert np.abs(found - phi).max() == pytest.approx(row["phi"], rel=1e-4)
        assert np.abs(x * (found - phi)).max() == pytest.approx(row["gelu"], rel=1e-4)


def test_the_program_prints_a_table_and_draws(tmp_path, capsys):
    path = tmp_path / "made" / "curves.png"
    example.main(["--figure", str(path)])
    printed = capsys.readouterr().out
    assert "0.044715" in printed
    assert "minimax" in printed
    assert path.read_bytes().startswith(b"\x89PNG")

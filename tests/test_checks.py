"""Checks of arguments: what passes, what is refused, and what the errors say."""

import math

import numpy as np
import pytest

from bert4keras import checks

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("shape", "one"),
    [((), True), ((None, 3), True), ([2, 3], True), ([(2, 3)], False)],
)
def test_one_shape_or_several(shape, one):
    assert checks.is_one_shape(shape) is one


def test_what_is_possible_passes():
    checks.check_sizes("Owner", one=1, other=np.int64(5))
    checks.check_sizes("Owner", 0, one=0)
    checks.check_optional_sizes("Owner", one=None, other=1)
    checks.check_rate("Owner", one=None, other=0, third=0.5, fourth=np.float32(0.5))
    checks.check_choice("Owner", (False, "before"), where="before", other=False)
    for schedule in (0, 1e-3, np.float32(1), None, "a schedule of another kind"):
        checks.check_learning_rate(schedule)


IMPOSSIBLE = [
    (lambda: checks.check_sizes("Owner", one=0), "Owner was given one=0.*least 1"),
    (lambda: checks.check_sizes("Owner", 0, one=-1), "one=-1.*at least 0"),
    (lambda: checks.check_sizes("Owner", one=True), "one=True"),
    (lambda: checks.check_sizes("Owner", one=1.0), "one=1.0"),
    (lambda: checks.check_optional_sizes("Owner", one="1"), "one='1'"),
    (lambda: checks.check_rate("Owner", one=1), "Owner was given one=1; "),
    (lambda: checks.check_rate("Owner", one=False), "one=False"),
    (lambda: checks.check_rate("Owner", one=math.nan), "one=nan"),
    (lambda: checks.check_choice("Owner", (False, "a"), one=0), r"one=0.*False, 'a'"),
    (lambda: checks.check_learning_rate(-1), "learning_rate=-1 was given"),
    (lambda: checks.check_patterns("names", {"a": 1}), "names={'a': 1}"),
    (lambda: checks.check_patterns("names", 5), "names=5"),
    (lambda: checks.check_patterns("names", ["a", ""]), r"names=\['a', ''\]"),
    (lambda: checks.check_patterns("names", (x for x in [1])), r"names=\[1\]"),
    (lambda: checks.check_count("steps", 0), "steps=0 was given.*at least 1"),
    (lambda: checks.check_count("steps", 2.0), "steps=2.0"),
]


@pytest.mark.parametrize(("check", "said"), IMPOSSIBLE)
def test_the_impossible_is_named(check, said):
    with pytest.raises(ValueError, match=said):
        check()


@pytest.mark.parametrize(
    ("value", "ends", "inside"),
    [
        (0, {"low": 0}, True),
        (0, {"low": 0, "low_open": True}, False),
        (1, {"low": 0, "high": 1}, True),
        (1, {"low": 0, "high": 1, "high_open": True}, False),
        (-1, {"low": 0}, False),
        (2, {"low": 0, "high": 1}, False),
        (math.inf, {"low": 0}, False),
        (math.nan, {"low": 0}, False),
        (True, {"low": 0}, False),
        ("1", {"low": 0}, False),
    ],
)
def test_intervals_of_numbers(value, ends, inside):
    if inside:
        result = checks.check_real("beta", np.float32(value), **ends)
        assert result == value and type(result) is float
        return
    open_low, open_high = ends.get("low_open"), ends.get("high_open")
    left = "(" if open_low else "["
    right = ")" if open_high or "high" not in ends else "]"
    interval = f"{left}{ends['low']}, {ends.get('high', math.inf)}{right}."
    with pytest.raises(ValueError) as caught:
        checks.check_real("beta", value, **ends)
    assert str(caught.value) == (
        f"beta={value!r} was given; it must be a number in {interval}"
    )


def test_patterns_become_a_tuple_of_strings():
    assert checks.check_patterns("names", None) == ()
    assert checks.check_patterns("names", "bias") == ("bias",)
    assert checks.check_patterns("names", (x for x in "ab")) == ("a", "b")


def test_a_pattern_without_a_variable_is_named():
    with pytest.warns(UserWarning, match=r"'Nrom' of `names` .*: kernel, norm"):
        checks.warn_of_unmatched("names", ["kern", "Nrom"], ["kernel", "norm"])

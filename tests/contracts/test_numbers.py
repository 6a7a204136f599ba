"""Columns of numbers as inputs."""

import numpy as np
import pytest

from regraft.contracts.numbers import NumberContract, number_rows
from regraft.errors import DataError

ROWS = np.array([[1.0, 10.0], [3.0, 50.0]])


def test_columns_are_scaled_by_the_training_table():
    """Mean 0 and standard deviation 1 there; other tables by the same numbers."""
    contract = NumberContract(("age", "weight"), standardize=True).measured(ROWS)
    assert contract.scaled(ROWS).tolist() == [[-1, -1], [1, 1]]
    assert contract.measured(ROWS + 100) == contract
    assert contract.scaled(np.array([[2.0, 30.0]])).tolist() == [[0, 0]]


def test_without_scale_the_numbers_are_as_they_are():
    """float32."""
    contract = NumberContract(("age", "weight"))
    assert contract.measured(ROWS) == contract
    assert (contract.scaled(ROWS).dtype, contract.scaled(ROWS).tolist()) == (np.float32, ROWS.tolist())


def test_a_column_of_one_value_cannot_be_scaled():
    """There is nothing to divide by."""
    with pytest.raises(DataError, match="All values of b are equal"):
        NumberContract(("a", "b"), standardize=True).measured(np.array([[1.0, 2.0], [3.0, 2.0]]))


def test_cells_become_numbers_and_others_are_named():
    """The first that is none."""
    assert number_rows("t.csv", {"a": ["1", " 2.5"], "b": [3, 4]}, ["a", "b"]).tolist() == [[1, 3], [2.5, 4]]
    for value, words in (("old", "expected a number"), ("", "expected a number"), ("nan", "expected a finite number")):
        with pytest.raises(DataError, match=f"t.csv: a of row 2 is .*{words}"):
            number_rows("t.csv", {"a": ["1", value]}, ["a"])

"""Tables of row ids."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regraft.caches.ids import Index, SeenIds
from regraft.tensors.fingerprints import ID_BYTES


def ids(numbers):
    """An id for each number; the byte that differs lies in the middle or at the end, where zeros count too."""
    made = np.zeros((len(numbers), ID_BYTES), np.uint8)
    made[:, 7] = [number // 4 for number in numbers]
    made[:, ID_BYTES - 1] = [number % 4 for number in numbers]
    return made


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=30))
def test_an_id_is_new_exactly_once(batches):
    """In the same batch or in another one, as a set tells."""
    seen, known = SeenIds(), set()
    for batch in batches:
        expected = []
        for number in batch:
            expected.append(number not in known)
            known.add(number)
        assert seen.first(ids(batch)).tolist() == expected
    assert len(seen) == len(known)


def test_a_hundred_thousand_ids_lie_in_few_runs():
    """A lookup looks into each."""
    seen, generator = SeenIds(), np.random.default_rng(0)
    for _ in range(400):
        assert seen.first(generator.integers(0, 256, (250, ID_BYTES), dtype=np.uint8)).all()
    assert len(seen) == 100_000
    assert len(seen._runs) <= 9


def test_the_index_gives_the_first_row_of_each_id():
    """-1 where there is none; nothing in an empty one."""
    index = Index(ids([7, 3, 7]))
    assert index.find(ids([3, 7, 5])).tolist() == [1, 0, -1]
    assert Index(ids([])).find(ids([3])).tolist() == [-1]

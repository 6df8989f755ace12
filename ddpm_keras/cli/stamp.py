"""What samples depend on besides their seeds, labels and sampler."""

import json
from typing import Any


def describe_model(denoiser: Any) -> dict[str, str]:
    """Describe a `Denoiser` and its backend, as text to store with samples.

    Samples with the same text, seed, label and sampler are the same, so that those that
    are there already need not be made again.
    """
    import keras

    from ddpm_keras.weights import fingerprint

    return {
        "weights": fingerprint(denoiser.network),
        "diffusion": json.dumps(denoiser.config.diffusion_arguments()),
        "backend": keras.backend.backend(),  # each draws other noise
    }

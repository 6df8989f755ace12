"""Features turned into their leading components, each with variance 1.

In features of a network with random weights, a few directions, brightness and contrast,
have nearly all the variance, and distances see nothing else. With equal variances they
see texture, sharpness and arrangement too (docs/measures.md has the numbers).
"""

import numpy as np

COMPONENTS = 64
IMAGES_PER_COMPONENT = 4  # fewer would fit the components to chance


def whitening(features):
    """Return a function that whitens features by the statistics of these.

    Args:
        features: Array of shape `(num_images, dims)`, of 2 or more real images.

    Returns:
        A function from an array of shape `(any_number, dims)` to one of shape
        `(any_number, components)`: the projections on the leading principal components
        of the real features, at most 64 and at most a quarter of their number, with
        mean 0 and variance 1 over the real images.
    """
    mean = features.mean(0)
    _, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
    deviations = sizes / np.sqrt(len(features))
    number = max(1, min(COMPONENTS, len(features) // IMAGES_PER_COMPONENT))
    # Equal images have no variance in some directions, or in any.
    number = min(number, max(1, int(np.sum(deviations > 1e-6 * deviations[0]))))
    axes, deviations = axes[:number].T, np.maximum(deviations[:number], 1e-12)
    return lambda some: (some - mean) @ axes / deviations

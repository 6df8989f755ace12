"""Images cut into batches of one size, so that no other shape is compiled."""

import numpy as np


def full_batches(count, batch_size):
    """Cut `count` images into batches, the last one filled up with its own images.

    Args:
        count: Number of images, 1 or more.
        batch_size: Images a batch; of fewer images there is one batch of their number.

    Returns:
        A list of pairs: the slice of images that a batch stands for, and the places of
        all its images, an int array. What comes of the filled-up ones is left out.
    """
    batch_size = min(batch_size, count)
    slices = [
        slice(first, min(first + batch_size, count))
        for first in range(0, count, batch_size)
    ]
    return [(s, np.resize(np.arange(s.start, s.stop), batch_size)) for s in slices]

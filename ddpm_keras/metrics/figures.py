"""The figures of an evaluation, as PNG files."""

import numpy as np
from matplotlib.figure import Figure

from ddpm_keras.files import written_whole


def save_bits_curve(path, likelihood):
    """Plot the mean term of each timestep, and their cumulative sum.

    Args:
        path: The PNG to write.
        likelihood: A `Likelihood`.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    terms, sums = figure.subplots(1, 2)
    for name, values in likelihood.terms.items():
        mean = values.mean(0)
        t = np.arange(1, len(mean) + 1)
        total = likelihood.total(name).mean()
        terms.loglog(t, np.maximum(mean, 1e-12), label=f"variance: {name}")
        sums.semilogx(t, mean.cumsum(), label=f"{name}: {total:.3f} in all")
    terms.set(ylabel="bits per dimension of the step")
    sums.set(ylabel="bits per dimension of all steps up to here")
    for axes in (terms, sums):
        axes.set(xlabel="timestep t, counted from 1")
        axes.grid(alpha=0.3)
        axes.legend()
    _save(path, figure)


def save_closest_pairs(path, samples, training, findings):
    """Draw the ten samples of the lowest ratios above their nearest training images.

    Args:
        path: The PNG to write.
        samples: uint8 array of shape `(num_samples, height, width, channels)`.
        training: uint8 array of the training images.
        findings: Dict from a label, such as `"pixels"`, to a `Memorisation` of these
            samples; each gives two rows.
    """
    number = min(10, len(samples))
    figure = Figure(figsize=(1.1 * number + 0.9, 2.7 * len(findings)))
    grid = figure.subplots(2 * len(findings), number, squeeze=False)
    for k, (label, finding) in enumerate(findings.items()):
        closest = np.argsort(finding.ratios, kind="stable")[:number]
        for column, i in enumerate(closest):
            nearest = training[finding.nearest[i]]
            if finding.is_mirrored[i]:
                nearest = nearest[:, ::-1]
            above, below = grid[2 * k : 2 * k + 2, column]
            above.set_title(f"{finding.ratios[i]:.2f}", fontsize=9)
            for axes, image in ((above, samples[i]), (below, nearest)):
                axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
                axes.set(xticks=[], yticks=[])
        grid[2 * k, 0].set_ylabel("sample", fontsize=9)
        grid[2 * k + 1, 0].set_ylabel(f"nearest\nin {label}", fontsize=9)
    figure.suptitle(
        "Closest pairs; above each, its distance over the training image's own to the "
        "next",
        fontsize=9,
    )
    figure.tight_layout()
    _save(path, figure)


def _save(path, figure):
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)

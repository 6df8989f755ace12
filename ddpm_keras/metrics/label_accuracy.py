"""Do samples show what their labels ask for?

A linear classifier learns the labels from features of the training images, and says of
each sample which label it sees. It errs on photographs too: the share of held-out
images that it gets right is what a perfect model would reach.
"""

import dataclasses

import numpy as np

from ddpm_keras.errors import InputError, require

# On photographs of 90 kinds of flowers, 0.03 to 0.3 are within a point of each other,
# and 0.003 is four points below.
INVERSE_REGULARISATION = 0.03


@dataclasses.dataclass(frozen=True)
class LabelAccuracy:
    """Shares of images that the classifier gives the label that they have.

    Attributes:
        share: Of the samples, in [0, 1].
        standard_error: Its standard error, of independent images.
        held_out_share: The same of held-out images, or `None`.
        held_out_error: Its standard error, or `None`.
    """

    share: float
    standard_error: float
    held_out_share: float | None = None
    held_out_error: float | None = None


def label_accuracy(
    train_features,
    train_labels,
    features,
    labels,
    held_out_features=None,
    held_out_labels=None,
):
    """Classify samples by their features, with a classifier of the training images.

    It is logistic regression on features of mean 0 and variance 1.

    Args:
        train_features: Array of shape `(num_training, dims)`.
        train_labels: Int array of shape `(num_training,)`, of two or more classes.
        features: Features of the samples, shape `(num_samples, dims)`.
        labels: The labels that they were sampled with, shape `(num_samples,)`.
        held_out_features: Features of real images that are not in training, for
            comparison. Default: none.
        held_out_labels: Their labels.

    Returns:
        A `LabelAccuracy`.

    Raises:
        ArgumentError: When lengths differ, or training images have a single class.
        InputError: When scikit-learn is not installed.

    Reference:
        - Ravuri and Vinyals 2019 (https://arxiv.org/abs/1905.10887) train on samples
          and classify photographs; this is the other way round, and needs few samples
    """
    require(
        len(np.unique(train_labels)) >= 2,
        "Training images of 2 or more classes are needed.",
        classes=len(np.unique(train_labels)),
    )
    classifier = _classifier()
    classifier.fit(train_features, train_labels)
    results = _share(classifier, features, labels)
    if held_out_features is not None:
        results += _share(classifier, held_out_features, held_out_labels)
    return LabelAccuracy(*results)


def _share(classifier, features, labels):
    require(
        len(features) == len(labels) > 0,
        "One or more images are needed, with a label each.",
        features=len(features),
        labels=len(labels),
    )
    share = float(np.mean(classifier.predict(features) == np.asarray(labels)))
    return share, float(np.sqrt(share * (1.0 - share) / len(labels)))


def _classifier():
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise InputError(
            "--metrics: label accuracy needs scikit-learn; install it with pip install "
            "'ddpm_keras[judge]', or leave this measure out"
        ) from error
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    )

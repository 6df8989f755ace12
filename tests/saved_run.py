"""A run folder with random weights, for the commands that read one."""

import numpy as np

# Keys of a network that is built in a moment, for images of 8x8 pixels.
TINY = dict(
    img_size=8,
    first_conv_channels=8,
    channel_multiplier=[1],
    has_attention=[False],
    num_res_blocks=1,
    norm_groups=4,
)


def save_run(folder, config, seed=0, trained_on=None):
    """Save random weights to a folder, as training does; return the network.

    `trained_on` is a `TrainingImages`, or `None` where the file is not to tell.
    """
    import keras

    from ddpm_keras.networks.unet import build_unet
    from ddpm_keras.weights import RUN_WEIGHTS, save_weights

    keras.utils.set_random_seed(seed)
    network = build_unet(**config.network_arguments())
    # As built, the last layer gives 0 whatever the others do.
    rng = np.random.default_rng(seed)
    network.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) for w in network.get_weights()]
    )
    save_weights(network, folder / RUN_WEIGHTS, config, training_images=trained_on)
    return network

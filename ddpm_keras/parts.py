"""A batch computed in parts, side by side, where TensorFlow has a thread for each.

Two threads that share every operation of a network wait for each other at its end, some
hundred times in a pass. Two that compute half of the images each do not: on two cores
sampling takes 0.77 of the time, and a training step 0.86 to 0.9.
`devices.one_thread_each` sets TensorFlow up for it; without that, batches stay whole.
"""

from keras import ops

from ddpm_keras.backend import is_tracing, traced_once
from ddpm_keras.devices import num_parts


def call_in_parts(network, inputs, training):
    """Call a network on parts of a batch, in branches of the graph that is traced.

    Args:
        network: A `keras.Model` that treats each image alone, and adds no loss in its
            call.
        inputs: Its list of tensors, images first.
        training: As in a call of the network.

    Returns:
        What the network returns for the whole batch.
    """
    number = num_parts() if is_tracing() else 1
    size, parts = _split(inputs, number)
    if len(parts) == 1:
        return network(inputs, training=training)

    def call(*part):
        return network(list(part), training=training)

    # A part would wait for another that assigns a variable, such as dropout's seed.
    if not training or not network.non_trainable_variables:
        call = traced_once(call, inline=training)
    outputs = [call(*part) for part in parts]
    return ops.concatenate(outputs)[:size]


def _split(inputs, number):
    """Return the size of a batch and its parts, which are of the same size.

    The last part takes its missing images from the start, for none may be empty.
    """
    size = ops.shape(inputs[0])[0]
    if isinstance(size, int):  # else it is not known yet
        number = min(number, size)
    if number == 1:
        return size, [inputs]
    part_size = -(-size // number)
    places = ops.arange(number * part_size) % size
    places = [places[k * part_size : (k + 1) * part_size] for k in range(number)]
    return size, [[ops.take(x, some, axis=0) for x in inputs] for some in places]

"""Readers of weights, a file format each; `ddpm_keras.weights` is the way in."""

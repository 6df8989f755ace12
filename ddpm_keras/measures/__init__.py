"""How good a model's images are, as numbers.

On arrays alone, in float64 NumPy: `kernel_distance` (KID), `frechet` (FID),
`sliced_wasserstein` (SWD), `precision_recall` (precision, recall, density, coverage),
`memorisation`. With a network: `features`, `likelihood` (bits per dimension). All of
them together: `evaluation`, with `sample_store` beneath it, and `in_training`.
`docs/measures.md` says which of them answers which question.
"""

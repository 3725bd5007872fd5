"""A quality measure: how bright a patch is."""


def mean_brightness(batch, mpp):
    """Return the mean value of each patch of a batch (N, H, W, 3); shape (N,), 0 to 255."""
    return batch.mean(axis=(1, 2, 3))

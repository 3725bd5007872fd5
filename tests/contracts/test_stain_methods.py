"""There is no built-in stain method: the contract is run on one that only shifts colours."""

import numpy as np

from qupath_bridge.testing.contracts.stain import StainContract


class Shift:
    def fit(self, sample):
        return tuple(200 - int(value) for value in sample.reshape(-1, 3).mean(axis=0))

    def apply(self, batch, profile):
        return (batch + np.array(profile)).clip(0, 255).astype(np.uint8)


class TestShift(StainContract):
    def make(self):
        return Shift()

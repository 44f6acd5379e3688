"""Random numbers without a state: hashes of what they are for, the same on any process and after any resume."""

import numpy as np
import numpy.typing as npt

Uint64Array = npt.NDArray[np.uint64]


def mix(values: Uint64Array) -> Uint64Array:
    """Scramble 64-bit integers one to one (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def mix_integers(*values: int) -> int:
    """Return one 63-bit hash of several non-negative integers, for seeds."""
    digest = np.zeros(1, dtype=np.uint64)
    for value in values:
        digest = mix(digest ^ np.array([value], dtype=np.uint64))
    return int(digest[0] >> np.uint64(1))


def uniform(values: Uint64Array) -> npt.NDArray[np.float64]:
    """Turn hashes into numbers in [0, 1)."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53

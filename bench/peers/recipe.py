"""Weights, images and labels from a formula, so that another implementation needs no files to start from the same point.

All of it rests on one integer hash (`hash32`); RECIPE says in words how numbers come of it, and goes into the golden files.
"""

import numpy as np

STRIDE = 10_000_000
RECIPE = {
    "hash": "h(i), all mod 2^32: x = i * 2654435761; x ^= x >> 16; x *= 2246822519; x ^= x >> 13; "
    "x *= 3266489917; x ^= x >> 16",
    "unit": "u(i) = (h(i) >> 8) / 2^24, exact in f32; s(i) = 2 * u(i) - 1, exact in f32",
    "pixel": "element i of the whole stream of images (step after step, [n, h, w, c]): h(i + 12345) >> 24; then "
    "label * 9 is added to channel (label mod 3) of every pixel of the image, saturating at 255",
    "label": "sample s of the whole stream: h(s + 777) mod classes",
    "input": "(pixel / 255 - 0.5) / 0.5",
    "weight": "element j of trainable tensor k (k counts from 0 in the order of `parameters`, j in the order of its "
    "`shape`: convolutions [out, kernel_h, kernel_w, in], linear layers [out, in] with maps flattened as (h, w, c)): "
    "f32(1 / sqrt(fan_in)) * s(k * 10000000 + j), one f32 product; batch-norm weight 1, bias 0",
}


def hash32(i):
    """The hash of every element of an integer array, as uint32."""
    x = (np.asarray(i, np.uint64) * np.uint64(2654435761)).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(2246822519)
    x ^= x >> np.uint32(13)
    x *= np.uint32(3266489917)
    x ^= x >> np.uint32(16)
    return x


def signed(start, shape):
    """f32 in [-1, 1): `s(start + j)` for element j of `shape`."""
    j = np.arange(start, start + int(np.prod(shape)), dtype=np.uint64)
    u = (hash32(j) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
    return (np.float32(2) * u - np.float32(1)).reshape(shape)


def batch(step, count, size, classes=10):
    """Images `[n, h, w, c]` as u8 and labels `[n]` of one training step."""
    sample = np.arange(step * count, (step + 1) * count, dtype=np.uint64)
    labels = (hash32(sample + np.uint64(777)) % np.uint32(classes)).astype(np.int64)
    length = count * size * size * 3
    i = np.arange(step * length, (step + 1) * length, dtype=np.uint64)
    images = (hash32(i + np.uint64(12345)) >> np.uint32(24)).reshape(count, size, size, 3)
    for image, label in zip(images, labels):
        image[:, :, label % 3] += np.uint32(label * 9)
    return np.minimum(images, 255).astype(np.uint8), labels


def weight(k, shape, fan_in):
    """Trainable tensor k."""
    return np.float32(1 / np.sqrt(np.float64(fan_in))) * signed(k * STRIDE, shape)

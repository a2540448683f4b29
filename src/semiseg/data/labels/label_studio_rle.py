"""The run-length encoding of Label Studio's brush masks: a bit stream that encodes the bytes of an RGBA image.

Header: 32 bits, the number of values; 5 bits, the bits per value minus one; four times 4 bits, the bits of a run length
minus one. Then blocks: 1 bit, whether one value is repeated; 2 bits, which of the four run-length sizes is used; the
run length minus one; then the repeated value, or that many values.
Source: the format of the npm package @thi.ng/rle-pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def decode_brush(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """(H, W) bool: where a brush mask is set (alpha above 0).

    Args:
        code: bytes, 0..255.
        height, width: size of the image it was painted on.

    Raises:
        ValueError: if the code is malformed or encodes another size.
    """
    bits = _Bits(np.frombuffer(bytes(code), np.uint8))  # ValueError for numbers outside 0..255
    total = bits.read(32)
    if total != height * width * 4:
        raise ValueError(f"it encodes {total // 4} pixels, the image has {height * width}")
    word = bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    values: np.ndarray = np.zeros(total, np.uint8 if word <= 8 else np.uint32)
    done = 0
    while done < total:
        repeated = bits.read(1)
        end = done + 1 + bits.read(lengths[bits.read(2)])
        if end > total:
            raise ValueError("a run extends past the end of the image")
        values[done:end] = bits.read(word) if repeated else bits.read_many(end - done, word)
        done = end
    return values.reshape(height, width, 4)[..., 3] > 0


class _Bits:
    """Reads numbers of any bit width, most significant bit first."""

    def __init__(self, data: np.ndarray):
        self._bits, self._at = np.unpackbits(data), 0

    def read(self, size: int) -> int:
        return int(self.read_many(1, size)[0])

    def read_many(self, count: int, size: int) -> np.ndarray:
        """(count,) int64."""
        taken = self._bits[self._at : self._at + count * size]
        if len(taken) < count * size:
            raise ValueError("it ends too early")
        self._at += count * size
        return taken.reshape(count, size).astype(np.int64) @ (1 << np.arange(size - 1, -1, -1, dtype=np.int64))

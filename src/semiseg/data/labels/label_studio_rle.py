"""The run-length code of Label Studio's brush: a stream of bits over the bytes of an RGBA image.

Form: 32 bits, the number of values; 5 bits, the bits of a value less one; four times 4 bits, the bits of a length
less one, of which each block chooses one. Then blocks: 1 bit, whether one value is repeated; 2 bits, which of the
four lengths; the length less one; and the value, or as many values as the length says.
Source: the format of the npm package @thi.ng/rle-pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def decode_brush(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """(H, W) bool: where a brush mask is set, its alpha above 0.

    Args:
        code: bytes, 0..255.
        height, width: of the image it was painted on.

    Raises:
        ValueError: if the code is broken or of another size.
    """
    bits = _Bits(np.frombuffer(bytes(code), np.uint8))  # ValueError for numbers that are no bytes
    total = bits.read(32)
    if total != height * width * 4:
        raise ValueError(f"it holds {total // 4} pixels, the image has {height * width}")
    word = bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    values: np.ndarray = np.zeros(total, np.uint8 if word <= 8 else np.uint32)
    done = 0
    while done < total:
        repeated = bits.read(1)
        end = done + 1 + bits.read(lengths[bits.read(2)])
        if end > total:
            raise ValueError("a run goes beyond the image")
        values[done:end] = bits.read(word) if repeated else bits.read_many(end - done, word)
        done = end
    return values.reshape(height, width, 4)[..., 3] > 0


class _Bits:
    """Reads numbers of any number of bits, the highest bit first."""

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

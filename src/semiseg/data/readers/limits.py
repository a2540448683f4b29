"""The default image size limit. Imports nothing, so that the command line can use it."""

from __future__ import annotations

MAX_PIXELS = 178_956_970
"""Maximum number of pixels of an image by default: Pillow's own limit, against decompression bombs."""

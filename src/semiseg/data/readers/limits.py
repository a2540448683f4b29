"""How large an image may be unasked. Imports nothing, so that the command line can name the number."""

from __future__ import annotations

MAX_PIXELS = 178_956_970
"""Pixels of an image that are decoded unasked: Pillow's own limit, against files that unpack to fill the memory."""

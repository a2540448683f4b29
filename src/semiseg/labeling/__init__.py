"""Which images to label next, and small networks taught by large ones."""

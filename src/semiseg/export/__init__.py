"""A trained network for other programs: one file a format, a card beside it, and the Hugging Face hub."""

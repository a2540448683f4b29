"""Export of trained networks for other programs: one module per format, a model card, and the Hugging Face hub."""

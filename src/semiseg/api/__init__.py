"""The Python interface: training, evaluation, prediction and reports."""

"""What ``import semiseg`` offers: training, evaluation, prediction and reports from Python."""

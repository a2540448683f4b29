"""Sweeps: which jobs there are, their processes, Optuna studies. Hydra's plugins (src/hydra_plugins) call this."""

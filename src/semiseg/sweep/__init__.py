"""Sweeps: planning jobs, job processes, Optuna studies. Called by the Hydra plugins in src/hydra_plugins."""

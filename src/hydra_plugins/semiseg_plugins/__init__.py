"""Hydra plugins for ``semiseg.sweep``. Hydra imports all of them at every start: no heavy imports at module level."""

"""Hydra's view of ``semiseg.sweep``. Hydra imports every module here at every start: nothing heavy at the top."""

"""The commands, one file each. `semiseg.cli` imports a command only when it is used."""

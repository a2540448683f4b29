"""The commands, one file each. `semiseg.cli` imports a command when it is called."""

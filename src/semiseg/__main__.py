"""``python -m semiseg`` is the same as ``semiseg``."""

from semiseg.cli import main

if __name__ == "__main__":
    main()

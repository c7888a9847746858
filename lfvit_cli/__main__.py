"""``python -m lfvit_cli`` is ``lfvit``."""

from lfvit_cli.app import main

if __name__ == "__main__":
    main()

"""``python -m ctscribe.cli``."""

from __future__ import annotations

from ctscribe.cli.table import main

if __name__ == "__main__":
    main()

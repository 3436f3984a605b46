"""``python -m bregma``."""

from bregma.cli import main

main()

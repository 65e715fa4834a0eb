"""`python -m pwru` is the command `pwru`."""

import sys

from pwru.cli import main

sys.exit(main())

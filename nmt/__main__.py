"""``python -m nmt`` is the command line."""

import sys

from nmt.cli import main

sys.exit(main())

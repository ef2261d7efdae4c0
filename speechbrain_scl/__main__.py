"""``python -m speechbrain_scl`` is the command ``speechbrain-scl``."""

import sys

from speechbrain_scl.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())

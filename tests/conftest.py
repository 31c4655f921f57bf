"""The programs of local/ are importable in tests, as they are for each other."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))

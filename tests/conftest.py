"""What all tests share: the programs of local/ are importable, as they are for each other, and those of benchmarks/;
torch takes one thread.

With two threads, networks this small are many times slower as soon as another program takes a core.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
sys.path.append(str(Path(__file__).parent / "benchmarks"))
torch.set_num_threads(1)

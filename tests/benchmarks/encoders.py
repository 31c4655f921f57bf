"""CPU time of a training step of the lyrics network, by conf file.

    python tests/benchmarks/encoders.py [conf/mini.yaml conf/mini_conformer.yaml ...]

Batches of 16 random clips of 4 to 8 s, in one thread; the median of ten steps after two.
"""

import statistics
import sys
import time

import torch

from altpo_model.config import load_config
from altpo_model.model import Batch, JointModel, losses

CONFS = ["conf/mini.yaml", "conf/mini_conformer.yaml", "conf/mini_e_branchformer.yaml"]
RATE, HOP = 16000, 256


def random_batch(clips: int = 16) -> Batch:
    num_samples = torch.randint(4 * RATE, 8 * RATE, (clips,))
    frames = int(num_samples.max()) // HOP
    return Batch(
        0.1 * torch.randn(clips, 2, int(num_samples.max())),
        num_samples,
        torch.arange(clips) < clips * 4 // 5,
        torch.randint(1, 34, (clips, 60)),
        torch.full((clips,), 60),
        torch.randint(0, 129, (clips, frames)),
        (torch.rand(clips, frames) > 0.98).float(),
    )


def main() -> None:
    torch.set_num_threads(1)
    for conf in sys.argv[1:] or CONFS:
        config = load_config(conf)
        torch.manual_seed(0)
        model = JointModel(config.model, config.features, 34, "baseline")
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        seconds = []
        for _ in range(12):
            batch = random_batch()
            start = time.process_time()
            optimizer.zero_grad()
            losses(model(batch), batch, config.song_training)["loss"].backward()
            optimizer.step()
            seconds.append(time.process_time() - start)
        size = sum(parameter.numel() for parameter in model.lyrics.parameters())
        print(f"{conf}: {1000 * statistics.median(seconds[2:]):.0f} ms a step, {size:,} parameters for the lyrics")


if __name__ == "__main__":
    main()

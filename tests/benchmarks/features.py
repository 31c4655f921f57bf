"""Log-mel features: ours, of a batch of waveforms on the device, against librosa's, one clip at a time on the host.

    python tests/benchmarks/features.py              # 16 clips of 16 s with two signals each; a GPU where there is one

Prints the greatest difference in dB, medians of ``--rounds`` in turn, and the ratio. The waveforms are noise at a level
that fades to nothing, so that the floor of 80 dB counts too. Needs librosa, which the recipe does not:
pip install librosa.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from plain import log_mel

from altpo_model.config import Features
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.features import LogMel

TOLERANCE_DB = 0.005  # between float32 spectra; it is greatest where a bin is 80 dB below the loudest


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = Features()
    samples = round(arguments.seconds * config.sample_rate)
    random = np.random.default_rng(0)
    fade = np.logspace(0, -6, samples)
    waveforms = (0.1 * fade * random.standard_normal((arguments.clips, 2, samples))).astype(np.float32)
    batch, num_samples = torch.from_numpy(waveforms), torch.full((arguments.clips,), samples)
    features = LogMel(config).to(device)

    def ours() -> np.ndarray:
        with torch.no_grad():
            result, _ = features(batch.to(device), num_samples.to(device))
        if device == "cuda":
            torch.cuda.synchronize()
        return result.cpu().numpy()

    def theirs() -> np.ndarray:
        return np.stack([[log_mel(signal, config) for signal in clip] for clip in waveforms])

    sides = {"ours": ours, "librosa": theirs}
    values = {name: side() for name, side in sides.items()}  # warms up too
    difference = float(np.abs(values["ours"] - values["librosa"]).max())
    if difference > TOLERANCE_DB:
        raise UserError(f"the features differ by {difference:.4f} dB")
    print(f"{arguments.clips} clips of {arguments.seconds:g} s, {device}, {arguments.threads} threads")
    print(f"greatest difference {difference:.5f} dB")
    wall, cpu = ({name: [] for name in sides} for _ in range(2))
    for _ in range(arguments.rounds):
        for name, side in sides.items():
            start = time.perf_counter(), time.process_time()
            side()
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
    for kind, measured in (("wall", wall), ("CPU", cpu)):
        medians = {name: statistics.median(times) for name, times in measured.items()}
        print(f"{kind:5} ours {medians['ours']:.3f} s, librosa {medians['librosa']:.3f} s, ", end="")
        print(f"ours {medians['librosa'] / medians['ours']:.1f} times faster")


if __name__ == "__main__":
    main()

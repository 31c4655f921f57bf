"""How well, and how fast, the trained separator finds the vocals of the test stems, which training never saw.

    python tests/benchmarks/separation.py --conf conf/mini.yaml

Prints the mean SI-SDR of the mixture and of the separated vocals in dB, and seconds of audio a second in one thread.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

from altpo_model.config import argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.separation import load_separator
from separation_score import score_separation
from stems import read_stems


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    separation = config.separation
    if separation.training is None:
        raise UserError("separation.training is null: there are no stems to score on")
    torch.set_num_threads(1)
    tracks = read_stems(Path(separation.training.stems_dir) / "test", separation.sample_rate)
    separator = load_separator(separation.model, separation.wiener_iterations)
    started = time.perf_counter()
    scores = score_separation(separator, tracks, separation)
    seconds = time.perf_counter() - started
    audio = sum(len(track.mixture) for track in tracks) / separation.sample_rate
    print(f"test tracks          {len(tracks)}, {audio:.0f} s")
    print(f"SI-SDR of mixture    {scores['si_sdr_mixture']:.2f} dB")
    print(f"SI-SDR of vocals     {scores['si_sdr_vocals']:.2f} dB")
    print(f"gain                 {scores['si_sdr_vocals'] - scores['si_sdr_mixture']:.2f} dB")
    print(f"speed                {audio / seconds:.0f} s of audio a second")


if __name__ == "__main__":
    main()

"""Stage 8: decode the test sets with every trained system.

Hypotheses are Lhotse SupervisionSets, exp/<conf name>/hypotheses/<system>/<cuts>.<method>.jsonl.gz, with the text, the
word times and the notes of each segment in the time of its recording. Methods: greedy (CTC best path) and beam
(lexicon and n-gram language model); a system without lyrics network has notes alone.
"""

from pathlib import Path

import torch
from lhotse import SupervisionSegment, SupervisionSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from tqdm import tqdm

from altpo_model.checkpoint import load_model
from altpo_model.config import LYRICS_CORPORA, Config, argument_parser, config_from
from altpo_model.decoding.beam import BeamSearch
from altpo_model.decoding.greedy import GreedySearch
from altpo_model.decoding.hypothesis import Hypothesis
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.model import JointModel, Output
from altpo_model.notes import Note, form_notes
from recipe.data import SegmentDataset, cuts_path, evaluation_loader, load_cuts

# What is decoded with what: the oracle needs notes, which JamendoLyrics does not have.
_WITH_NOTES = tuple(f"{corpus}_test" for corpus in LYRICS_CORPORA)
TEST_SETS = {
    "speech": ("librispeech_test",),
    "pitch_onset": _WITH_NOTES,
    "baseline": (*_WITH_NOTES, "jamendo_test"),
    "oracle": _WITH_NOTES,
    "multitask": (*_WITH_NOTES, "jamendo_test"),
}


def test_sets(config: Config, system: str) -> list[str]:
    """Those of the system's test sets whose corpus is in the run and has test segments."""
    return [
        name
        for name in TEST_SETS[system]
        if getattr(config.corpora, name.removesuffix("_test")) and cuts_path(config, name).is_file()
    ]


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--system", choices=TEST_SETS, action="append", help="only this one (default: all)")
    arguments = parser.parse_args()
    config = config_from(arguments)
    if config.threads:
        torch.set_num_threads(config.threads)
    trained_data = Path(config.trained.data_dir if config.trained else config.data_dir)
    trained_systems = Path(config.trained.exp_dir if config.trained else config.exp_dir)
    if not any(test_sets(config, system) for system in TEST_SETS):
        raise UserError(f"{config.data_dir}/cuts: no test set to decode; run stages 1 to 4")
    jobs = []
    for system in arguments.system or TEST_SETS:
        (Path(config.exp_dir) / "hypotheses" / system).mkdir(parents=True, exist_ok=True)
        names = test_sets(config, system)
        if not names:
            print(f"{system}: none of its test sets ({', '.join(TEST_SETS[system])}) is in this run")
        jobs += [(system, name) for name in names]
    beam = None
    for system, name in jobs:
        model, tokens, _ = load_model(trained_systems / system / "model.pt")
        if beam is None and model.lyrics is not None:
            beam = BeamSearch.from_files(
                tokens, trained_data / "lang_char" / "lexicon.txt", trained_data / "lm" / "lm.bin", config.decoding
            )
        decode(config, model, tokens, beam, system, name)


def decode(config: Config, model: JointModel, tokens, beam: BeamSearch | None, system: str, name: str) -> None:
    """Decode the cuts ``name`` and write their hypotheses."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    dataset = SegmentDataset(tokens, config.features.sample_rate, config.features.hop)
    cuts, notes, log_probs = [], [], []
    seconds = config.features.hop / config.features.sample_rate
    with torch.inference_mode(), tqdm(unit="segment", mininterval=5, desc=f"{system}, {name}") as progress:
        for batch, batch_cuts in evaluation_loader(load_cuts(config, name), dataset, config.decoding.max_seconds):
            output = model(batch.to(device))
            cuts += batch_cuts
            notes += _notes(output, config, seconds) if model.pitch_onset else [None] * len(batch_cuts)
            if model.lyrics is not None:
                lengths = output.log_probs_lengths.tolist()
                log_probs += [p[:n].cpu().numpy() for p, n in zip(output.log_probs.float(), lengths, strict=True)]
            progress.update(len(batch_cuts))
    if model.lyrics is None:
        _write(config, system, name, "notes", cuts, None, notes, 0.0)
        return
    frame = seconds * model.lyrics.encoder.subsampling
    for method, search in {"greedy": GreedySearch(tokens), "beam": beam}.items():
        _write(config, system, name, method, cuts, search.decode_batch(log_probs, config.jobs), notes, frame)


def _notes(output: Output, config: Config, seconds: float) -> list[list[Note]]:
    pitch = output.pitch_logits.float().cpu().numpy()
    onset = torch.sigmoid(output.onset_logits.float()).cpu().numpy()
    threshold, window = config.decoding.onset_threshold, config.decoding.onset_window
    return [
        form_notes(pitch[i, :, :n], onset[i, :n], seconds, threshold, window)
        for i, n in enumerate(output.lengths.tolist())
    ]


def hypotheses_path(config: Config, system: str, name: str, method: str) -> Path:
    return Path(config.exp_dir) / "hypotheses" / system / f"{name}.{method}.jsonl.gz"


def _write(
    config: Config,
    system: str,
    name: str,
    method: str,
    cuts: list[Cut],
    hypotheses: list[Hypothesis] | None,
    notes: list[list[Note] | None],
    frame: float,
) -> None:
    segments = []
    for i, cut in enumerate(cuts):
        alignment = {}
        if hypotheses is not None:
            alignment["word"] = [
                _item(cut, word.text, word.start * frame, word.end * frame) for word in hypotheses[i].words
            ]
        if notes[i] is not None:
            alignment["note"] = [_item(cut, str(n.pitch), n.onset, n.offset) for n in notes[i]]
        segments.append(
            SupervisionSegment(
                id=cut.id,
                recording_id=cut.recording_id,
                start=cut.start,
                duration=cut.duration,
                text=hypotheses[i].text if hypotheses else None,
                alignment=alignment,
            )
        )
    path = hypotheses_path(config, system, name, method)
    with write_atomically(path) as temporary:
        SupervisionSet.from_segments(sorted(segments, key=lambda s: s.id)).to_file(temporary)
    print(f"{system}, {name}: {len(segments)} segments in {path}")


def _item(cut: Cut, symbol: str, start: float, end: float) -> AlignmentItem:
    """Times within the cut -> times within the recording, not behind the cut's end."""
    start, end = (min(time, cut.duration) for time in (start, end))
    return AlignmentItem(symbol, round(cut.start + start, 8), round(end - start, 8))


if __name__ == "__main__":
    main()

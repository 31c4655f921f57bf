"""Stage 8: decode the test sets with every trained system.

Hypotheses are Lhotse SupervisionSets, exp/<conf name>/hypotheses/<system>/<cuts>.<method>.jsonl.gz, with the text, the
words (with times, and their confidence as score) and the notes of each segment in the time of its recording. The custom
field ``words_of_notes`` says which word (counted from 0) each note carries, null where none is sung. The methods are
decoding.methods of the conf (altpo_model/decoding/search.py says which there are), with the weights that recipe/tune.py
has found; a system without lyrics network has notes alone.
"""

from pathlib import Path

import torch
from lhotse import SupervisionSegment, SupervisionSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from altpo_model.config import LYRICS_CORPORA, Config, argument_parser, config_from
from altpo_model.decoding.hypothesis import Hypothesis
from altpo_model.decoding.search import Search, check_methods
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.notes import words_of_notes
from recipe.data import cuts_path, load_cuts
from recipe.inference import Outputs, System
from recipe.tune import load_search, tuned

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
    if not any(test_sets(config, system) for system in TEST_SETS):
        raise UserError(f"{config.data_dir}/cuts: no test set to decode; run stages 1 to 4")
    check_methods(config.decoding.methods)
    searches: dict[str, Search] = {}
    for name in arguments.system or TEST_SETS:
        (Path(config.exp_dir) / "hypotheses" / name).mkdir(parents=True, exist_ok=True)
        sets = test_sets(config, name)
        if not sets:
            print(f"{name}: none of its test sets ({', '.join(TEST_SETS[name])}) is in this run")
            continue
        system = System(config, name)
        if system.model.lyrics is not None:
            for method in config.decoding.methods:
                options = tuned(config, name, method)
                known = searches.get(method)
                searches[method] = (
                    known.with_options(options) if known else load_search(config, method, system.tokens, options)
                )
        for test_set in sets:
            decode(config, system, searches, test_set)


def decode(config: Config, system: System, searches: dict[str, Search], name: str) -> None:
    """Decode the cuts ``name`` by each method and write their hypotheses."""
    outputs = system.outputs(load_cuts(config, name), f"{system.name}, {name}")
    if outputs.log_probs is None:
        _write(config, system.name, name, "notes", outputs, None)
        return
    references = [cut.supervisions[0].text or "" for cut in outputs.cuts]
    for method, search in searches.items():
        found = search.decode_batch(outputs.log_probs, config.jobs, references)
        _write(config, system.name, name, method, outputs, found)


def hypotheses_path(config: Config, system: str, name: str, method: str) -> Path:
    return Path(config.exp_dir) / "hypotheses" / system / f"{name}.{method}.jsonl.gz"


def _write(
    config: Config, system: str, name: str, method: str, outputs: Outputs, hypotheses: list[Hypothesis] | None
) -> None:
    segments = []
    for i, cut in enumerate(outputs.cuts):
        alignment, custom = {}, None
        if hypotheses is not None:
            alignment["word"] = [
                _item(cut, word.text, word.start * outputs.frame, word.end * outputs.frame, word.confidence)
                for word in hypotheses[i].words
            ]
        if outputs.notes is not None:
            alignment["note"] = [_item(cut, str(n.pitch), n.onset, n.offset) for n in outputs.notes[i]]
        if len(alignment) == 2:
            words = [(word.start * outputs.frame, word.end * outputs.frame) for word in hypotheses[i].words]
            custom = {"words_of_notes": words_of_notes(outputs.notes[i], words)}
        segments.append(
            SupervisionSegment(
                id=cut.id,
                recording_id=cut.recording_id,
                start=cut.start,
                duration=cut.duration,
                text=hypotheses[i].text if hypotheses else None,
                alignment=alignment,
                custom=custom,
            )
        )
    path = hypotheses_path(config, system, name, method)
    with write_atomically(path) as temporary:
        SupervisionSet.from_segments(sorted(segments, key=lambda s: s.id)).to_file(temporary)
    print(f"{system}, {name}: {len(segments)} segments in {path}")


def _item(cut: Cut, symbol: str, start: float, end: float, confidence: float | None = None) -> AlignmentItem:
    """Times within the cut -> times within the recording, not behind the cut's end."""
    start, end = (min(time, cut.duration) for time in (start, end))
    score = None if confidence is None else round(confidence, 4)
    return AlignmentItem(symbol, round(cut.start + start, 8), round(end - start, 8), score)


if __name__ == "__main__":
    main()

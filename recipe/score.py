"""Stage 9: score the hypotheses; the paper's two tables, with the paper's figures beside ours.

Writes into exp/<conf name>: results.json (every figure), RESULTS.md (the tables) and
errors/<system>-<cuts>-<method>.txt (each segment with its errors aligned, as icefall writes them).
`recipe/measures.py` says how each figure is computed.
"""

import json
from collections import Counter
from pathlib import Path

import jiwer
import numpy as np
from lhotse import load_manifest

from altpo_model.config import Config, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.text import scoring_text
from recipe.data import load_cuts, notes_of
from recipe.decode import TEST_SETS, hypotheses_path
from recipe.measures import note_scores, word_error_rate
from recipe.stage import seconds_of_stages

METHODS = ("greedy", "beam")
SHORT = {"librispeech_test": "speech", "dali_test": "dali", "jamendo_test": "jamendo"}
TITLES = {"speech": "speech", "dali": "songs (DALI)", "jamendo": "JamendoLyrics"}

# Deng, Nakamura and Yoshii (ISMIR 2022): WER of the beam search; LibriSpeech is test-clean.
PAPER_WER = {
    ("speech", "speech"): 6.56,
    ("baseline", "dali"): 69.22,
    ("oracle", "dali"): 64.41,
    ("multitask", "dali"): 68.29,
    ("baseline", "jamendo"): 77.3,
    ("multitask", "jamendo"): 76.2,
}
PAPER_NOTES = {
    ("pitch_onset", "COn"): (53.21, 30.99, 38.77),
    ("pitch_onset", "COnP"): (36.92, 21.49, 26.90),
    ("multitask", "COn"): (59.84, 28.69, 38.41),
    ("multitask", "COnP"): (40.49, 19.57, 26.14),
}


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    results = score(config)
    folder = Path(config.exp_dir)
    tables = f"{word_table(results)}\n{note_table(results)}"
    with write_atomically(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    with write_atomically(folder / "RESULTS.md") as temporary:
        temporary.write_text(f"# Results of {config.name}\n\n{tables}")
    print(tables)
    print(f"Figures: {folder}/results.json; aligned errors: {folder}/errors/")


def score(config: Config) -> dict:
    """Every figure of the tables; {"wer", "notes", "filter", "separation", "seconds"}."""
    results: dict = {"wer": {}, "notes": {}}
    for system, names in TEST_SETS.items():
        for name in names:
            for method in (*METHODS, "notes"):
                path = hypotheses_path(config, system, name, method)
                if not path.is_file():
                    continue
                hypotheses = {segment.id: segment for segment in load_manifest(path)}
                references = {cut.id: cut.supervisions[0] for cut in load_cuts(config, name)}
                if hypotheses.keys() != references.keys():
                    raise UserError(f"{path}: made from other cuts than {config.data_dir} now has; run stage 8 again")
                if method in METHODS:
                    pairs = {i: (references[i].text or "", h.text or "") for i, h in hypotheses.items()}
                    by_set = results["wer"].setdefault(system, {}).setdefault(SHORT[name], {})
                    by_set[method] = word_error_rate(list(pairs.values()))
                    _write_errors(Path(config.exp_dir) / "errors" / f"{system}-{name}-{method}.txt", pairs)
                if name == "dali_test" and system in ("pitch_onset", "multitask"):
                    results["notes"][system] = _mean_note_scores(config, name, hypotheses)
    if not results["wer"] and not results["notes"]:
        raise UserError(f"{config.exp_dir}/hypotheses: nothing to score; run stage 8")
    for key, path in {"filter": "filter/scores.json", "separation": "separator/si_sdr.json"}.items():
        path = Path(config.data_dir) / path
        results[key] = json.loads(path.read_text()) if path.is_file() else None
    results["seconds"] = seconds_of_stages(config)
    return results


def _mean_note_scores(config: Config, name: str, hypotheses: dict) -> dict[str, list[float]]:
    scores = []
    for cut in load_cuts(config, name):
        reference = notes_of(cut.supervisions[0], cut.start)
        if reference:
            estimate = notes_of(hypotheses[cut.id], cut.start)
            scores.append(note_scores(reference, estimate, config.scoring))
    return {kind: np.mean([s[kind] for s in scores], axis=0).tolist() for kind in ("COn", "COnP")} if scores else {}


def word_table(results: dict) -> str:
    lines = [
        "Word error rate in %, over the corpus and (in brackets) as the mean of the segments' rates. The paper's",
        "figures are of LibriSpeech, DALI and JamendoLyrics themselves, with its full-size networks.",
        "",
        "| system | test set | greedy | beam, 5-gram | paper |",
        "|---|---|---|---|---|",
    ]
    for system, by_set in results["wer"].items():
        for test_set, by_method in by_set.items():
            cells = [f"{by_method[m]['corpus']:.2f} ({by_method[m]['segments']:.2f})" for m in METHODS]
            paper = PAPER_WER.get((system, test_set))
            lines.append(f"| {system} | {TITLES[test_set]} | {' | '.join(cells)} | {paper or ''} |")
    return "\n".join(lines) + "\n"


def note_table(results: dict) -> str:
    if not results["notes"]:
        return "Notes: no test set with notes in this run.\n"
    lines = [
        "Notes of the song test set: precision / recall / F in %, mean over segments (onset within 50 ms, pitch",
        "within 50 cents).",
        "",
        "| system | COn | paper | COnP | paper |",
        "|---|---|---|---|---|",
    ]
    for system, scores in results["notes"].items():
        cells = []
        for kind in ("COn", "COnP"):
            cells.append(" / ".join(f"{value:.2f}" for value in scores[kind]))
            cells.append(" / ".join(f"{value:.2f}" for value in PAPER_NOTES[system, kind]))
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _write_errors(path: Path, pairs: dict[str, tuple[str, str]]) -> None:
    """Aligned errors by segment, ``(reference->hypothesis)`` where they differ, ``*`` for no word; then the counts."""
    counts: Counter = Counter()
    substitutions: Counter = Counter()
    lines = []
    for segment, (reference, hypothesis) in sorted(pairs.items()):
        words, heard = scoring_text(reference).split(), scoring_text(hypothesis).split()
        shown = []
        for chunk in _chunks(words, heard):
            left, right = words[slice(*chunk[1])], heard[slice(*chunk[2])]
            counts[chunk[0]] += max(len(left), len(right))
            if chunk[0] == "equal":
                shown += left
            else:
                shown.append(f"({' '.join(left) or '*'}->{' '.join(right) or '*'})")
                substitutions.update(zip(left, right, strict=False))
        lines.append(f"{segment}:\t{' '.join(shown)}")
    total = counts["equal"] + counts["substitute"] + counts["delete"]
    wrong = counts["substitute"] + counts["delete"] + counts["insert"]
    head = (
        f"%WER {100 * wrong / max(1, total):.2f} [{wrong} / {total}, {counts['insert']} ins, {counts['delete']} del, "
        f"{counts['substitute']} sub]"
    )
    often = [f"{count}\t{left} -> {right}" for (left, right), count in substitutions.most_common(50)]
    with write_atomically(path) as temporary:
        temporary.write_text("\n".join([head, "", *lines, "", "SUBSTITUTIONS: count ref -> hyp", *often]) + "\n")


def _chunks(words: list[str], heard: list[str]) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
    if not words:
        return [("insert", (0, 0), (0, len(heard)))] if heard else []
    aligned = jiwer.process_words(" ".join(words), " ".join(heard)).alignments[0]
    return [(c.type, (c.ref_start_idx, c.ref_end_idx), (c.hyp_start_idx, c.hyp_end_idx)) for c in aligned]


if __name__ == "__main__":
    main()

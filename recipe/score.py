"""Stage 9: score the hypotheses; the paper's two tables, with the paper's figures beside ours.

Writes into exp/<conf name>: results.json (every figure), RESULTS.md (the tables), songs.csv (every song with notes, by
system) and errors/<system>-<cuts>-<method>.txt (each segment with its errors aligned, as icefall writes them).
`recipe/measures.py` says how each figure is computed.
"""

import csv
import json
from collections import Counter
from pathlib import Path

import jiwer
import numpy as np
from lhotse import load_manifest

from altpo_model.config import LYRICS_CORPORA, Config, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.text import scoring_text
from recipe.data import filter_rows, load_cuts, notes_of
from recipe.decode import TEST_SETS, hypotheses_path, test_sets
from recipe.measures import note_scores, word_error_rate
from recipe.stage import seconds_of_stages

NOTE_KINDS = ("COn", "COnP")
TITLES = {"speech": "speech", "dali": "songs (DALI)", "ultrastar": "songs (UltraStar)", "jamendo": "JamendoLyrics"}

# Deng, Nakamura and Yoshii (ISMIR 2022): WER of ctc-beam-search; LibriSpeech is test-clean.
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
    with write_atomically(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    with write_atomically(folder / "RESULTS.md") as temporary:
        temporary.write_text(f"# Results of {config.name}\n\n{tables(results)}")
    _write_songs(folder / "songs.csv", results)
    print(tables(results))
    print(f"Figures: {folder}/results.json; by song: {folder}/songs.csv; aligned errors: {folder}/errors/")


def score(config: Config) -> dict:
    """Every figure of the tables; {"wer", "notes", "songs", "filter", "separation", "seconds"}."""
    results: dict = {"wer": {}, "notes": {}, "songs": {}}
    shifts = filter_rows(config)
    for system in TEST_SETS:
        for name in test_sets(config, system):
            test_set = "speech" if name == "librispeech_test" else name.removesuffix("_test")
            pairs, notes = _words_and_notes(config, system, name)
            for method, texts in pairs.items():
                by_set = results["wer"].setdefault(system, {}).setdefault(test_set, {})
                by_set[method] = word_error_rate(list(texts.values()))
                _write_errors(Path(config.exp_dir) / "errors" / f"{system}-{name}-{method}.txt", texts)
            if notes:
                results["notes"].setdefault(system, {})[test_set] = _mean(notes.values())
            if test_set in LYRICS_CORPORA and (pairs or notes):
                songs = _by_song(config, name, pairs, notes, shifts)
                results["songs"].setdefault(test_set, {})[system] = songs
    if not results["wer"] and not results["notes"]:
        raise UserError(f"{config.exp_dir}/hypotheses: nothing to score; run stage 8")
    for key, path in {"filter": "filter/scores.json", "separation": "separator/si_sdr.json"}.items():
        path = Path(config.data_dir) / path
        results[key] = json.loads(path.read_text()) if path.is_file() else None
    results["seconds"] = seconds_of_stages(config)
    return results


def _words_and_notes(config: Config, system: str, name: str) -> tuple[dict, dict]:
    """{method: {segment: (reference, hypothesis)}} and {segment: {"COn": [P, R, F], "COnP": [P, R, F]}}."""
    pairs, notes = {}, {}
    cuts = {cut.id: cut for cut in load_cuts(config, name)}
    for method in (*config.decoding.methods, "notes"):
        path = hypotheses_path(config, system, name, method)
        if not path.is_file():
            continue
        hypotheses = {segment.id: segment for segment in load_manifest(path)}
        if hypotheses.keys() != cuts.keys():
            raise UserError(f"{path}: made from other cuts than {config.data_dir} now has; run stage 8 again")
        if method != "notes":
            pairs[method] = {i: (cuts[i].supervisions[0].text or "", h.text or "") for i, h in hypotheses.items()}
        if system in ("pitch_onset", "multitask"):
            for i, cut in cuts.items():
                if reference := notes_of(cut.supervisions[0], cut.start):
                    notes[i] = note_scores(reference, notes_of(hypotheses[i], cut.start), config.scoring)
    return pairs, notes


def _by_song(config: Config, name: str, pairs: dict, notes: dict, shifts: dict) -> dict[str, dict]:
    """By song: words, WER by method (corpus), the means of its segments' note scores, and the filter's best shift."""
    segments: dict[str, list[str]] = {}
    for cut in load_cuts(config, name):
        segments.setdefault(cut.recording_id, []).append(cut.id)
    songs = {}
    for song, ids in segments.items():
        row = {method: word_error_rate([texts[i] for i in ids])["corpus"] for method, texts in pairs.items()}
        for texts in pairs.values():
            row["words"] = sum(len(scoring_text(texts[i][0]).split()) for i in ids)
        row |= _mean(notes[i] for i in ids if i in notes)
        row |= {key: shifts[song][key] for key in ("best_offset", "best_res") if song in shifts}
        songs[song] = row
    return songs


def _mean(scores) -> dict[str, list[float]]:
    scores = list(scores)
    return {kind: np.mean([s[kind] for s in scores], axis=0).tolist() for kind in NOTE_KINDS} if scores else {}


def tables(results: dict) -> str:
    """The result tables in Markdown."""
    parts = [word_table(results), note_table(results)]
    return "\n".join(part for part in [*parts, song_table(results)] if part)


def word_table(results: dict) -> str:
    methods = _methods(results)
    lines = [
        "Word error rate in %, over the corpus and (in brackets) as the mean of the segments' rates. The paper's",
        "figures are of a beam search on LibriSpeech, DALI and JamendoLyrics themselves, with full-size networks.",
        "",
        f"| system | test set | {' | '.join(methods)} | paper |",
        f"|---|---|{'---|' * len(methods)}---|",
    ]
    for system, by_set in results["wer"].items():
        for test_set, by_method in by_set.items():
            rates = [by_method.get(method) for method in methods]
            cells = [f"{rate['corpus']:.2f} ({rate['segments']:.2f})" if rate else "" for rate in rates]
            paper = PAPER_WER.get((system, test_set))
            lines.append(f"| {system} | {TITLES[test_set]} | {' | '.join(cells)} | {paper or ''} |")
    return "\n".join(lines) + "\n"


def _methods(results: dict) -> list[str]:
    """Those that any system was decoded with."""
    return list(
        dict.fromkeys(m for by_set in results["wer"].values() for by_method in by_set.values() for m in by_method)
    )


def note_table(results: dict) -> str:
    if not results["notes"]:
        return "Notes: no test set with notes in this run.\n"
    lines = [
        "Notes of the song test sets: precision / recall / F in %, mean over segments (onset within 50 ms, pitch",
        "within 50 cents). The paper's figures are of DALI.",
        "",
        "| system | test set | COn | paper | COnP | paper |",
        "|---|---|---|---|---|---|",
    ]
    for system, by_set in results["notes"].items():
        for test_set, scores in by_set.items():
            cells = []
            for kind in NOTE_KINDS:
                cells.append(_triple(scores[kind]))
                cells.append(_triple(PAPER_NOTES[system, kind]) if test_set == "dali" else "")
            lines.append(f"| {system} | {TITLES[test_set]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def song_table(results: dict) -> str:
    """One's own songs one by one; the other test sets' songs are in songs.csv."""
    by_system = results["songs"].get("ultrastar", {})
    if not by_system:
        return ""
    methods = _methods(results)
    lines = [
        "UltraStar songs one by one. Shift: the semitones that bring the annotated notes nearest to the estimate of",
        "the pitch network, and the share of frames that are wrong then.",
        "",
        f"| song | words | best shift (error) | system | {' | '.join(methods)} | COn | COnP |",
        f"|---|---|---|---|{'---|' * len(methods)}---|---|",
    ]
    for song in sorted({song for songs in by_system.values() for song in songs}):
        for system, songs in by_system.items():
            row = songs.get(song)
            if row is None:
                continue
            shift = f"{row['best_offset']:+.0f} ({row['best_res']:.2f})" if "best_res" in row else ""
            rates = [f"{row[method]:.1f}" if method in row else "" for method in methods]
            notes = [_triple(row[kind]) if kind in row else "" for kind in NOTE_KINDS]
            cells = [song, str(row.get("words", "")), shift, system, *rates, *notes]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _triple(values) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def _write_songs(path: Path, results: dict) -> None:
    """A row a song and system: words, WER by method, precision, recall and F of the notes, the filter's best shift."""
    notes = [f"{kind} {part}" for kind in NOTE_KINDS for part in ("P", "R", "F")]
    plain = ("words", *_methods(results), "best_offset", "best_res")
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("set", "system", "song", *plain, *notes))
        for test_set, by_system in results["songs"].items():
            for system, songs in by_system.items():
                for song, row in sorted(songs.items()):
                    values = [value for kind in NOTE_KINDS for value in row.get(kind, [""] * 3)]
                    writer.writerow((test_set, system, song, *(row.get(key, "") for key in plain), *values))


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

"""JamendoLyrics' layout: a table of the songs, mp3 audio, lyrics as printed and word by word, word and line times."""

import csv
from pathlib import Path

from mini_corpora.composition import Line, Song
from mini_corpora.plan import Plan
from mini_corpora.rendering import SongJob

COLUMNS = "URL,Filepath,Artist,Title,Genre,LicenseType,Language,LyricOverlap,Polyphonic,NonLexical".split(",")
PARAGRAPH = 4  # lines
_COMMA_AFTER = {"oh", "tonight", "tomorrow"}


def _name(song: Song) -> str:
    return f"{song.artist}_-_{song.title}".replace(" ", "_")


def jobs(plan: Plan, folder: Path, accompaniment_db: float) -> list[SongJob]:
    """The audio to make under ``folder``."""
    return [SongJob(song, folder / "mp3" / f"{_name(song)}.mp3", None, accompaniment_db) for song in plan.jamendo]


def write_tables(plan: Plan, folder: Path) -> None:
    """The table of the songs, their lyrics and their annotations."""
    for part in ("lyrics", "annotations/words", "annotations/lines", "mp3"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "JamendoLyrics.csv", COLUMNS, [_row(song) for song in plan.jamendo])
    for song in plan.jamendo:
        name = _name(song)
        printed = [_printed(line) for line in song.lines]
        blocks = ["\n".join(printed[i : i + PARAGRAPH]) for i in range(0, len(printed), PARAGRAPH)]
        (folder / "lyrics" / f"{name}.txt").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
        words = "".join(f"{word.text}\n" for word in song.words)
        (folder / "lyrics" / f"{name}.words.txt").write_text(words, encoding="utf-8")
        _write_csv(folder / f"annotations/words/{name}.csv", ["word_start", "word_end", "line_end"], _word_rows(song))
        _write_csv(
            folder / f"annotations/lines/{name}.csv",
            ["start_time", "end_time", "lyrics_line"],
            [[_time(line.start), _time(line.end), text] for line, text in zip(song.lines, printed, strict=True)],
        )


def _row(song: Song) -> list[str]:
    return ["", f"{_name(song)}.mp3", song.artist, song.title, "Pop", "", "English", "false", "false", "false"]


def _word_rows(song: Song) -> list[list[str]]:
    rows = []
    for line in song.lines:
        for word in line.words:
            line_end = _time(line.end) if word is line.words[-1] else "nan"
            rows.append([_time(word.start), _time(word.end), line_end])
    return rows


def _printed(line: Line) -> str:
    """The line as a lyrics sheet has it: a capital at the start, "I", some commas."""
    words = ["I" if word.text == "i" else word.text for word in line.words]
    words = [f"{word}," if word in _COMMA_AFTER and word != words[-1] else word for word in words]
    return " ".join([words[0][0].upper() + words[0][1:], *words[1:]])


def _time(seconds: float) -> str:
    return f"{seconds:.9f}"


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)

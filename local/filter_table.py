"""The table of the pitch-shift filter: its file, and which songs it selects.

    python local/filter_table.py offsets_and_results.csv [--max-error 0.5] [--output split.csv]

prints how many songs of a table are selected and how the paper divides them; ``--output`` lists them: id, shift, part.

A table is a CSV file in the form of the one that the authors published: the song's id (a column without a name),
``best_offset`` (semitones to add to the annotated notes), ``best_res`` (the error at that shift, 0 to 1) and
``sec_best_res`` (the error at the second best).
"""

import argparse
import csv
import math
from collections.abc import Iterable
from pathlib import Path

from altpo_model.config import Filter, Split
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from song_splits import shuffled_parts

COLUMNS = ("", "best_offset", "best_res", "sec_best_res")

Table = dict[str, dict[str, float]]  # {song: {column: value}}, in the order of the file


def read_table(path: str | Path) -> Table:
    """Raises UserError where the file or a column is missing, a value is no number or a song is there twice."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such filter table (conf key filter.table)")
    table: Table = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            missing = [column for column in COLUMNS[1:] if column not in header[1:]]
            if missing:
                columns = ",".join(COLUMNS[1:])
                raise UserError(f"{path}: a filter table has the columns id,{columns}; missing: {missing[0]}")
            where = {column: header.index(column) for column in COLUMNS[1:]}
            for row in reader:
                if row:
                    table.update(_read_row(row, where, f"{path}, line {reader.line_num}", table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return table


def write_table(path: Path, table: Table) -> None:
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([song, *(row[column] for column in COLUMNS[1:])] for song, row in table.items())


def selected(table: Table, max_error: float) -> list[str]:
    """The songs whose best error is at most ``max_error``, in table order."""
    return [song for song, row in table.items() if row["best_res"] <= max_error]


def paper_parts(filter_: Filter, split: Split) -> dict[str, list[str]]:
    """Song ids by part: the selected songs of ``filter_.table``, whether they are there or not (paper, section 4.1).

    Raises UserError when the conf names no table.
    """
    if not filter_.table:
        raise UserError("split: paper divides the songs of the authors' table; set filter.table to it, or use ratio")
    return shuffled_parts(selected(read_table(filter_.table), filter_.max_error), split)


def _read_row(row: list[str], where: dict[str, int], place: str, table: Table) -> Table:
    shown = " ".join(",".join(row).split())[:80]  # a field may have line ends in it
    try:
        values = {column: float(row[index]) for column, index in where.items()}
    except (IndexError, ValueError):
        raise UserError(f"{place}: not a row of a filter table: {shown}") from None
    if not all(map(math.isfinite, values.values())) or values["best_offset"] % 1:
        raise UserError(f"{place}: a shift is a whole number and an error a finite one: {shown}")
    if row[0] in table:
        raise UserError(f"{place}: the song {' '.join(row[0].split())} is there twice")
    return {row[0]: values}


def _write_parts(path: Path, parts: dict[str, list[str]], table: Table) -> None:
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("id", "shift", "part"))
        writer.writerows((song, int(table[song]["best_offset"]), part) for part in parts for song in parts[part])


def counts(parts: dict[str, Iterable]) -> str:
    return ", ".join(f"{len(list(members))} {part}" for part, members in parts.items())


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--max-error", type=float, default=Filter.max_error)
    parser.add_argument("--output", type=Path, metavar="CSV")
    arguments = parser.parse_args()
    table = read_table(arguments.table)
    parts = paper_parts(Filter(table=str(arguments.table), max_error=arguments.max_error), Split(by="paper"))
    chosen = sum(map(len, parts.values()))
    print(f"{len(table)} songs, {chosen} with an error of at most {arguments.max_error:g}; split: {counts(parts)}")
    if arguments.output:
        _write_parts(arguments.output, parts, table)


if __name__ == "__main__":
    main()

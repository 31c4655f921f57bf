import pytest
from lhotse import RecordingSet, SupervisionSet
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from prepare_librispeech import prepare_librispeech


@pytest.fixture
def corpus(tmp_path):
    """Two chapters of dev-clean; 84-121123-0001 will do for breaking."""
    root = tmp_path / "LibriSpeech"
    for speaker, chapter, lines in [
        ("84", "121123", ["GO DO YOU HEAR", "BUT IN LESS THAN FIVE MINUTES", "HE DIDN'T"]),
        ("174", "50561", ["FORGOTTEN TOO THE NAME OF GILLIAN"]),
    ]:
        folder = root / "dev-clean" / speaker / chapter
        names = [f"{speaker}-{chapter}-{index:04d}" for index in range(len(lines))]
        for index, name in enumerate(names):
            write_sine(folder / f"{name}.flac", 1.5 + index)
        transcript = "".join(f"{name} {line}\n" for name, line in zip(names, lines, strict=True))
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(transcript)
    return root


def test_every_utterance_is_in_with_its_text_and_its_own_path(corpus, tmp_path):
    manifests = prepare_librispeech(corpus, ["dev-clean"], tmp_path / "manifests")["dev-clean"]
    texts = {supervision.id: supervision.text for supervision in manifests["supervisions"]}
    assert texts == {
        "174-50561-0000": "forgotten too the name of gillian",
        "84-121123-0000": "go do you hear",
        "84-121123-0001": "but in less than five minutes",
        "84-121123-0002": "he didn't",
    }
    recording = manifests["recordings"]["84-121123-0001"]
    assert recording.sources[0].source == str(corpus / "dev-clean/84/121123/84-121123-0001.flac")
    assert recording.num_samples == 40000
    assert manifests["supervisions"]["84-121123-0001"].speaker == "84"
    written = RecordingSet.from_file(tmp_path / "manifests/librispeech_recordings_dev-clean.jsonl.gz")
    assert [recording.id for recording in written] == sorted(texts)
    assert len(SupervisionSet.from_file(tmp_path / "manifests/librispeech_supervisions_dev-clean.jsonl.gz")) == 4


def test_broken_and_missing_audio_is_named_left_out_and_counted(corpus, tmp_path):
    chapter = corpus / "dev-clean/84/121123"
    truncate(chapter / "84-121123-0000.flac")
    (chapter / "84-121123-0001.flac").write_bytes(b"no sound at all")
    (chapter / "84-121123-0002.flac").unlink()
    conf = write_conf(
        tmp_path,
        {"corpora": {"librispeech": {"dir": str(corpus), "train": [], "validation": ["dev-clean"], "test": []}}},
    )
    done = run_program("prepare_librispeech", "--conf", conf)
    assert done.returncode == 0, done.stderr
    assert "dev-clean: 1 utterances" in done.stdout and "broken audio: 3" in done.stdout
    for name in ("84-121123-0000", "84-121123-0001", "84-121123-0002"):
        assert name in done.stdout
    left = RecordingSet.from_file(tmp_path / "data/manifests/librispeech_recordings_dev-clean.jsonl.gz")
    assert [recording.id for recording in left] == ["174-50561-0000"]


def test_a_part_with_nothing_left_stops_with_one_line(corpus):
    for path in corpus.rglob("*.flac"):
        truncate(path)
    with pytest.raises(UserError, match="broken audio: 4, such as 174-50561-0000"):
        prepare_librispeech(corpus, ["dev-clean"])


def test_a_missing_folder_stops_with_one_line_that_names_the_conf_key(tmp_path):
    conf = write_conf(tmp_path, {"corpora": {"librispeech": {"dir": str(tmp_path / "nowhere")}}})
    assert_one_clear_line(run_program("prepare_librispeech", "--conf", conf), "nowhere", "corpora.librispeech.dir")


def test_a_line_without_text_is_left_out(corpus):
    with (corpus / "dev-clean/174/50561/174-50561.trans.txt").open("a") as stream:
        stream.write("174-50561-0001\n\n")
    assert len(prepare_librispeech(corpus, ["dev-clean"])["dev-clean"]["recordings"]) == 4


def test_processes_give_what_one_process_gives(corpus):
    alone, together = (prepare_librispeech(corpus, ["dev-clean"], num_jobs=jobs)["dev-clean"] for jobs in (1, 2))
    assert list(alone["recordings"]) == list(together["recordings"])
    assert list(alone["supervisions"]) == list(together["supervisions"])

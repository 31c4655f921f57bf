import functools
import http.server
import re
import shutil
import tarfile
import threading

import pytest
from lhotse import RecordingSet, SupervisionSet
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.config import LibriSpeech
from altpo_model.errors import UserError
from prepare_librispeech import configured_parts, download_parts, prepare_librispeech


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


@pytest.mark.parametrize("parts", [[], ["dev-clean"], ["test-clean"], ["test-clean", "dev-clean"]])
def test_any_subset_of_the_parts_is_prepared(corpus, tmp_path, parts):
    shutil.copytree(corpus / "dev-clean", corpus / "test-clean")
    manifests = prepare_librispeech(corpus, parts, tmp_path / "manifests")
    assert {part: len(both["recordings"]) for part, both in manifests.items()} == dict.fromkeys(parts, 4)
    written = {path.name for path in (tmp_path / "manifests").glob("*.jsonl.gz")}
    kinds = ("recordings", "supervisions")
    assert written == {f"librispeech_{kind}_{part}.jsonl.gz" for part in parts for kind in kinds}


def test_a_part_that_serves_twice_is_prepared_once():
    librispeech = LibriSpeech(train=["dev-clean"], validation=["dev-clean"], test=["test-clean", "dev-clean"])
    assert configured_parts(librispeech) == ["dev-clean", "test-clean"]


class OpenSlr(http.server.SimpleHTTPRequestHandler):
    """Serves the rest of a file, as www.openslr.org does, and breaks off where the server says so."""

    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.translate_path(self.path)
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except OSError:
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        rest = content[start:]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.breaks_off])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def openslr(corpus, tmp_path, monkeypatch):
    """A server of dev-clean, packed as the real one is; ``url`` is its address."""
    monkeypatch.setenv("no_proxy", "*")
    (corpus / "LICENSE.TXT").write_text("CC BY 4.0")
    (tmp_path / "served/12").mkdir(parents=True)
    with tarfile.open(tmp_path / "served/12/dev-clean.tar.gz", "w:gz") as archive:
        archive.add(corpus, "LibriSpeech")
    handler = functools.partial(OpenSlr, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.breaks_off = [], None
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_missing_parts_are_fetched_and_those_that_are_there_are_left_alone(openslr, tmp_path):
    corpus = tmp_path / "any name"
    (corpus / "test-clean").mkdir(parents=True)  # unpacked by hand: nothing says that it is whole
    assert download_parts(corpus, ["dev-clean", "test-clean"], openslr.url) == ["dev-clean"]
    assert len(prepare_librispeech(corpus, ["dev-clean"])["dev-clean"]["recordings"]) == 4
    assert sorted(path.name for path in corpus.iterdir()) == ["LICENSE.TXT", "dev-clean", "test-clean"]
    assert download_parts(corpus, ["dev-clean", "test-clean"], openslr.url) == []
    assert openslr.asked == ["/12/dev-clean.tar.gz"]


def test_a_download_that_broke_off_is_one_line_and_goes_on_where_it_stopped(openslr, tmp_path):
    corpus = tmp_path / "LibriSpeech2"
    openslr.breaks_off = 5000
    with pytest.raises(UserError, match="no whole archive.*www.openslr.org/12") as caught:
        download_parts(corpus, ["dev-clean"], openslr.url)
    assert "\n" not in str(caught.value) and not (corpus / "dev-clean").exists()
    assert (corpus / ".download/dev-clean.tar.gz").stat().st_size == 5000
    openslr.breaks_off = None
    assert download_parts(corpus, ["dev-clean"], openslr.url) == ["dev-clean"]
    assert len(prepare_librispeech(corpus, ["dev-clean"])["dev-clean"]["recordings"]) == 4


def test_the_program_downloads_and_network_errors_are_one_line(openslr, tmp_path):
    corpus = tmp_path / "fetched" / "LibriSpeech"
    section = {"dir": str(corpus), "train": [], "validation": ["dev-clean"], "test": []}
    conf = write_conf(tmp_path, {"corpora": {"librispeech": section}})
    download = functools.partial(run_program, "prepare_librispeech", "--conf", conf, "--download", "--mirror")
    done = download(openslr.url)
    assert done.returncode == 0, done.stderr
    assert "fetched dev-clean, 0 parts were there" in done.stdout
    shutil.rmtree(corpus / "dev-clean")
    done = download("http://127.0.0.1:9")
    [line] = [line for line in done.stderr.splitlines() if line and "|" not in line]  # Lhotse's progress bar apart
    assert done.returncode == 1
    assert all(word in line for word in ("error: ", "dev-clean", "refused", "www.openslr.org/12")), line
    with pytest.raises(UserError, match="dev-clean could not be fetched.*404"):
        download_parts(corpus, ["dev-clean"], f"{openslr.url}/gone")


def test_a_part_that_librispeech_does_not_have_is_named(tmp_path):
    with pytest.raises(UserError, match="no part 'dev-claen'; it has dev-clean, dev-other"):
        download_parts(tmp_path, ["dev-claen"], "http://127.0.0.1:9")

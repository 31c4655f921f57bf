import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from test_prepare_jamendo import add_song
from tiny_audio import ROOT

from altpo_model.errors import UserError
from manifests import Report
from parallel import parallel_map
from prepare_jamendo import prepare_jamendo


@pytest.fixture
def dask_executor(monkeypatch):
    """A cluster on this machine, whose workers find the recipe as parallel.py says."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "local")]))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "JamendoLyrics"
    for number in range(5):
        add_song(root, f"Song_{number}", suffix=None if number == 3 else ".mp3")
    return root


def prepared(corpus, **options):
    report = Report("jamendo")
    manifests = prepare_jamendo(corpus, report=report, **options)["test"]
    return list(manifests["recordings"]), list(manifests["supervisions"]), report


def test_threads_and_processes_give_what_one_process_gives(corpus):
    alone = prepared(corpus)
    assert len(alone[0]) == 4
    with ThreadPoolExecutor(2) as threads:
        assert prepared(corpus, executor=threads) == alone
    with ProcessPoolExecutor(2) as processes:
        assert prepared(corpus, executor=processes, num_jobs=2) == alone
    assert prepared(corpus, num_jobs=2) == alone


def test_a_dask_cluster_gives_what_one_process_gives(corpus, dask_executor):
    assert prepared(corpus, executor=dask_executor, num_jobs=2) == prepared(corpus)


def test_a_process_that_dies_is_one_clear_line():
    for options in ({"num_jobs": 2}, {"executor": ProcessPoolExecutor(2)}):
        with pytest.raises(UserError, match="^songs: a worker died") as caught:
            list(parallel_map(os._exit, [1, 1], "songs", **options))
        assert "\n" not in str(caught.value)


def test_a_dask_worker_that_dies_is_one_clear_line(dask_executor):
    with pytest.raises(UserError, match="^songs: a worker died"):
        list(parallel_map(os._exit, [1], "songs", executor=dask_executor))


def test_an_error_of_the_function_stays_itself():
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="invalid literal"):
        list(parallel_map(int, ["1", "one"], "numbers", executor=threads))


def test_results_keep_the_order_of_the_items():
    with ThreadPoolExecutor(4) as threads:
        assert list(parallel_map(str, range(1000), "numbers", 4, threads)) == [str(number) for number in range(1000)]

"""Conf files: what is read, and what the person who wrote one is told."""

import pytest

from altpo_model.config import Config, ConfigError, Split, argument_parser, config_from, load_config


def conf_file(folder, text, name="trial.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def message(folder, text, overrides=None):
    with pytest.raises(ConfigError) as caught:
        load_config(conf_file(folder, text), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_file_gives_the_defaults_and_the_name_of_the_file(tmp_path):
    config = load_config(conf_file(tmp_path, ""))
    assert config.name == "trial"
    assert config.exp_dir == "exp/trial"
    assert config.decoding == Config().decoding


@pytest.mark.parametrize(
    "text, unknown, nearest",
    [
        ("decodign: {}", "decodign", "decoding"),
        ("decoding: {lmscale: 1.0}", "decoding.lmscale", "decoding.lm_scale"),
        ("corpora: {dali: {split: {seeds: 1}}}", "corpora.dali.split.seeds", "corpora.dali.split.seed"),
        ("corpora: {jamendo: {langauges: [English]}}", "corpora.jamendo.langauges", "corpora.jamendo.languages"),
        ("7: {}", "7", ""),
    ],
)
def test_an_unknown_key_names_the_file_the_key_and_the_nearest_one(tmp_path, text, unknown, nearest):
    said = message(tmp_path, text)
    assert str(tmp_path / "trial.yaml") in said
    assert f"unknown key `{unknown}`; did you mean `{nearest}" in said


@pytest.mark.parametrize(
    "text, fault",
    [
        ("jobs: two", "`jobs` must be a whole number, not 'two'"),
        ("jobs: 1.5", "`jobs` must be a whole number, not 1.5"),
        ("jobs: true", "`jobs` must be a whole number, not True"),
        ("jobs: null", "`jobs` must be a whole number, not None"),
        ("data_dir: 3", "`data_dir` must be text, not 3"),
        ("segments: {join: 1}", "`segments.join` must be true or false, not 1"),
        ("decoding: {lm_scale: false}", "`decoding.lm_scale` must be a number, not False"),
        ("decoding: {lm_scale: high}", "`decoding.lm_scale` must be a number, not 'high'"),
        ("decoding: 3", "decoding must be a section of `key: value` lines, not 3"),
        ("lm: {prune: 0}", "`lm.prune` must be a list, not 0"),
        ("lm: {prune: [0, x]}", r"`lm.prune[1]` must be a whole number, not 'x'"),
        ("model: {lyrics: {encoder_conf: 3}}", "`model.lyrics.encoder_conf` must be a section"),
        ("- jobs", "not a list"),
        ("jobs: [1", "not YAML"),
        ("base: 3", "`base` must be"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(tmp_path, text, fault):
    assert fault in message(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such conf file"):
        load_config(tmp_path / "nowhere.yaml")
    assert "gone.yaml: no such conf file" in message(tmp_path, "base: gone.yaml")


def test_a_file_states_only_what_differs_from_its_base(tmp_path):
    conf_file(tmp_path, "jobs: 7\ndecoding: {beam: 9, lm_scale: 0.5}\nlm: {prune: [0, 0, 1]}\n", "base.yaml")
    conf_file(tmp_path, "base: base.yaml\ndecoding: {beam: 10}\n", "middle.yaml")
    config = load_config(conf_file(tmp_path, "base: middle.yaml\ndecoding: {lm_scale: 2}\nlm: {prune: [0]}\n"))
    assert (config.jobs, config.decoding.beam, config.decoding.lm_scale) == (7, 10, 2.0)
    assert config.lm.prune == [0]
    assert config.name == "trial"


def test_a_base_is_found_beside_the_file_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    conf_file(tmp_path / "conf", "jobs: 7", "base.yaml")
    path = conf_file(tmp_path / "conf", "base: base.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_config(path.relative_to(tmp_path)).jobs == 7


def test_bases_in_a_circle_are_refused(tmp_path):
    conf_file(tmp_path, "base: trial.yaml", "other.yaml")
    assert "form a circle" in message(tmp_path, "base: other.yaml")
    assert "form a circle" in message(tmp_path, "base: trial.yaml")


@pytest.mark.parametrize("written, value", [("5e-4", 0.0005), ("5.0e-4", 0.0005), ("1E3", 1000.0), ("3", 3.0)])
def test_numbers_may_be_written_with_an_exponent(tmp_path, written, value):
    in_file = load_config(conf_file(tmp_path, f"song_training: {{learning_rate: {written}}}"))
    in_command = load_config(conf_file(tmp_path, ""), [f"song_training.learning_rate={written}"])
    assert in_file.song_training.learning_rate == value
    assert in_command.song_training.learning_rate == value


def test_whole_numbers_become_floats_where_floats_are_wanted(tmp_path):
    value = load_config(conf_file(tmp_path, "decoding: {lm_scale: 1}")).decoding.lm_scale
    assert isinstance(value, float)


def test_null_leaves_a_section_out_and_an_empty_section_has_its_defaults(tmp_path):
    config = load_config(conf_file(tmp_path, "corpora: {mini: {}, jamendo: null, dali: {languages: null}}"))
    assert config.corpora.mini is not None
    assert config.corpora.jamendo is None
    assert config.corpora.dali.languages is None


def test_overrides_come_last_and_in_their_order(tmp_path):
    path = conf_file(tmp_path, "decoding: {beam: 9}\ncorpora: {jamendo: null}")
    config = load_config(path, ["decoding.beam=10", "decoding.beam=11", "corpora.jamendo.dir=songs", "lm.prune=[0, 1]"])
    assert config.decoding.beam == 11
    assert config.corpora.jamendo.dir == "songs"
    assert config.lm.prune == [0, 1]


@pytest.mark.parametrize(
    "override, fault",
    [
        ("decoding.beam", "write KEY=VALUE"),
        ("decoding.beem=3", "did you mean `decoding.beam`"),
        ("decoding.beam=[", "not YAML"),
        ("decoding.beam=many", "must be a whole number"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path, override, fault):
    assert fault in message(tmp_path, "", [override])


def test_programs_share_the_options_conf_and_set(tmp_path):
    path = conf_file(tmp_path, "jobs: 7")
    arguments = argument_parser("what it does").parse_args(["--conf", str(path), "--set", "seed=5"])
    config = config_from(arguments)
    assert (config.jobs, config.seed) == (7, 5)


def test_another_encoder_does_not_inherit_the_options_of_the_base_files_encoder(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {lyrics: {encoder: crnn, encoder_conf: {lstm_size: 64, dropout: 0.1}}}")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text("base: base.yaml\nmodel: {lyrics: {encoder: crnn, encoder_conf: {dropout: 0.2}}}")
    other.write_text("base: base.yaml\nmodel: {lyrics: {encoder: mine, encoder_conf: {depth: 3}}}")
    assert load_config(same).model.lyrics.encoder_conf == {"lstm_size": 64, "dropout": 0.2}
    assert load_config(other).model.lyrics.encoder_conf == {"depth": 3}


def test_split_by_its_name_alone_is_short_for_the_section(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("corpora: {dali: {split: paper}}\n")
    config = load_config(path, ["corpora.ultrastar.split=train"])
    assert config.corpora.dali.split == Split(by="paper")
    assert config.corpora.ultrastar.split.by == "train"

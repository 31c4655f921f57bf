#!/usr/bin/env bash
# The whole recipe, stage by stage. With no option: on the embedded mini corpora, set-up included.
usage() {
    cat <<'TEXT'
usage: ./run.sh [--stage N] [--stop-stage N] [--conf FILE] [--system NAME] [--set KEY=VALUE]... [--force]

  --stage N        first stage (default 0)          --stop-stage N   last stage (default 10)
  --conf FILE      configuration (default conf/mini.yaml)
  --system NAME    in stages 7 and 8 only this system: pitch_onset, baseline, oracle or multitask
  --set KEY=VALUE  change one conf key, such as --set decoding.beam=50
  --force          do finished stages again

  0 corpora     1 manifests      2 vocal separation   3 pitch-shift filter   4 segments   5 language model
  6 speech pre-training          7 the four systems   8 decoding             9 scoring   10 report

A finished stage is done again only when its conf keys or its inputs changed; decoding, scoring and the report also
when --stage names them.
TEXT
}

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

{ # bash reads a block whole before it runs it, so that this file may be edited while it runs

first=0 last=10 conf=conf/mini.yaml systems="pitch_onset baseline multitask oracle" force=() options=() named=false
die() { echo "error: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --force) force=(--force); shift; continue ;;
        --stage | --stop-stage | --conf | --system | --set) [ $# -ge 2 ] || die "$1 needs a value; see ./run.sh --help" ;;
        *) die "unknown option $1; see ./run.sh --help" ;;
    esac
    case $1 in
        --stage) first=$2 named=true ;;
        --stop-stage) last=$2 ;;
        --conf) conf=$2 ;;
        --system) systems=$2 ;;
        --set) options+=(--set "$2") ;;
    esac
    shift 2
done
for number in "$first" "$last"; do
    [[ $number =~ ^(10|[0-9])$ ]] || die "a stage is a number from 0 to 10, not '$number'; see ./run.sh --help"
done
for system in $systems; do
    [[ $system =~ ^(pitch_onset|baseline|oracle|multitask)$ ]] || die "unknown system '$system'; see ./run.sh --help"
done
[ -f "$conf" ] || die "no conf file $conf; the ready ones are in conf/"

export PYTHONUNBUFFERED=1
. ./path.sh || exit 1
options=(--conf "$conf" "${options[@]}")
settings=$(python -m recipe.stage paths "${options[@]}") || exit 1
eval "$settings" # data_dir, exp_dir, models, models_data, parallel_systems, needs_pitch_network, ...

# begin STAGE TITLE [what recipe/stage.py takes]: whether there is anything to do.
begin() {
    current=$1
    local number=${1%%-*} title=$2 status=0 again=("${force[@]}")
    shift 2
    [ "$number" -ge "$first" ] && [ "$number" -le "$last" ] || return 1
    if $named && [ "$number" -ge 8 ]; then again=(--force); fi
    books=("$@" "${again[@]}")
    python -m recipe.stage begin "${options[@]}" --stage "$current" "${books[@]}" || status=$?
    if [ $status = 10 ]; then
        echo "stage $current ($title): done before, nothing changed"
        return 1
    fi
    [ $status = 0 ] || exit $status
    echo "stage $current ($title)"
}
finish() { python -m recipe.stage finish "${options[@]}" --stage "$current" "${books[@]}"; }
# What this script starts dies with it (where util-linux is there), so that no training goes on unseen after a kill -9.
tied=()
if command -v setpriv >/dev/null; then tied=(setpriv --pdeathsig KILL); fi
run() {
    echo "+ $*"
    "${tied[@]}" "$@" || stopped
}
stopped() {
    echo "stage $current stopped; the same command goes on from there" >&2
    exit 1
}
trap 'kill "${!trains[@]}" 2>/dev/null || true' EXIT
declare -A trains=() # trainings in the background, which end with this script: process -> system
wait_for_training() {
    local process status=0
    wait -n -p process "${!trains[@]}" || status=$?
    current=7-${trains[$process]}
    unset "trains[$process]"
    [ $status = 0 ] || stopped
    finish
}
has_corpus() { [[ " ${corpora[*]} " == *" $1 "* ]]; }

if has_corpus mini && begin 0 "mini corpora" --uses corpora.mini --writes "{corpora.mini.dir}/JamendoLyrics"; then
    run python local/make_mini_corpora.py "${options[@]}"
    finish
fi

if $downloads_librispeech && begin 0-librispeech "download of LibriSpeech" --uses corpora.librispeech \
    --writes "{corpora.librispeech.dir}"; then
    run python local/prepare_librispeech.py --download "${options[@]}"
    finish
fi

prepare() { # CORPUS, a manifest that it makes, the conf keys of its paths, its other conf keys
    local corpus=$1 uses=() reads=() key
    for key in $3; do reads+=("{corpora.$corpus.$key}"); done
    for key in $3 $4; do uses+=("corpora.$corpus.$key"); done
    if has_corpus "$corpus" && begin "1-$corpus" "manifests" --uses "${uses[@]}" --reads "${reads[@]}" \
        --writes "$data_dir/manifests/$2"; then
        run python "local/prepare_$corpus.py" "${options[@]}"
        finish
    fi
}
prepare librispeech "" "dir" "train validation test"
prepare dali dali_recordings_all.jsonl.gz "dir audio_dir ground_truth metadata" "languages"
prepare ultrastar ultrastar_recordings_all.jsonl.gz "dir" "languages"
prepare rwc rwc_recordings_train.jsonl.gz "audio_dir annotation_dir" "melody_track languages train_songs"
prepare mir_st500 mir_st500_recordings_train.jsonl.gz "annotation audio_dir" "train_songs"
prepare jamendo jamendo_recordings_test.jsonl.gz "dir" "languages"

if begin 2-separator "train the vocal separator" --uses separation seed --reads "{separation.training.stems_dir}" \
    --writes "$data_dir"; then
    run python local/train_separator.py "${options[@]}"
    finish
fi
if begin 2-separation "vocal separation" --uses separation --reads "{separation.model}" "$data_dir/manifests" \
    --writes "$data_dir/songs"; then
    run python local/separate.py "${options[@]}"
    finish
fi

if $needs_pitch_network && begin 3-network "pitch network on RWC or MIR-ST500" \
    --uses model.pitch_onset filter_training features segments seed \
    --reads "$data_dir"/songs/{rwc,mir_st500}_{train,test}.jsonl.gz "$data_dir"/audio/{rwc,mir_st500} \
    --writes "$data_dir/filter/model.pt" --clears "$data_dir/filter"; then
    run python local/make_cuts.py --corpus rwc --corpus mir_st500 "${options[@]}"
    run python -m recipe.train --run filter "${options[@]}"
    finish
fi
for corpus in dali ultrastar; do filtered+=("$data_dir/songs/${corpus}_all.jsonl.gz" "$data_dir/audio/$corpus"); done
if { has_corpus dali || has_corpus ultrastar; } && begin 3-filter "pitch-shift filter" \
    --uses filter features corpora.dali.dir corpora.ultrastar.over_error --reads "{filter.table}" \
    "$models_data/filter/model.pt" "${filtered[@]}" --writes "$data_dir/songs"; then
    run python local/filter_pitch_shifts.py "${options[@]}"
    finish
fi

if begin 4 "segments" --uses segments filter corpora.dali.split corpora.ultrastar.split corpora.librispeech \
    --reads "$data_dir/songs" "$data_dir/manifests" "{filter.table}" "{segments.alignments}" --writes "$data_dir/cuts"; then
    run python local/make_cuts.py "${options[@]}"
    finish
fi

if [ "$models" != "$exp_dir" ]; then
    echo "stages 5 to 7: nothing to do, the conf takes the models of $models"
else
    if begin 5-lm "language model" --uses lm --reads "{lm.text}" --writes "$data_dir/lm/lm.bin"; then
        run python local/train_lm.py "${options[@]}"
        finish
    fi
    if begin 5-lang "lang directory" --uses lang decoding.methods lm.token_order --reads "$data_dir/lm/words.txt" \
        "{lm.text}" "$data_dir/cuts" --writes "$lang/tokens.txt"; then
        run python local/prepare_lang.py "${options[@]}"
        finish
    fi
    uses=(model features seed lang)
    speech=("$data_dir/cuts/librispeech_train.jsonl.gz" "$data_dir/cuts/librispeech_validation.jsonl.gz")
    songs=("$data_dir"/cuts/{dali,ultrastar}_{train,validation}.jsonl.gz "$data_dir"/audio/{dali,ultrastar})
    if has_corpus librispeech && begin 6 "speech pre-training" --books exp --uses "${uses[@]}" speech_training \
        --after 1-librispeech --reads "${speech[@]}" "$lang/tokens.txt" --writes "$exp_dir/speech/model.pt" \
        --clears "$exp_dir/speech"; then
        run python -m recipe.train --run speech "${options[@]}"
        finish
    fi
    # Several systems train at the same time where the conf says so; multitask may start from what pitch_onset has learnt.
    for system in $systems; do
        while [ ${#trains[@]} -ge "$parallel_systems" ]; do wait_for_training; done
        [ "$system" = pitch_onset ] && training=pitch_onset_training || training=song_training
        start=()
        if [ "$system" = multitask ]; then
            start=("$exp_dir/pitch_onset/model.pt")
            while [[ " ${trains[*]} " == *" pitch_onset "* ]]; do wait_for_training; done
        fi
        if begin "7-$system" "train" --books exp --uses "${uses[@]}" "$training" \
            --after 1-librispeech --reads "${songs[@]}" "${speech[@]}" "$lang/tokens.txt" "$exp_dir/speech/model.pt" \
            "${start[@]}" --writes "$exp_dir/$system/model.pt" --clears "$exp_dir/$system"; then
            echo "+ python -m recipe.train --run $system ${options[*]}"
            "${tied[@]}" python -m recipe.train --run "$system" "${options[@]}" &
            trains[$!]=$system
        fi
    done
    while [ ${#trains[@]} -gt 0 ]; do wait_for_training; done
fi

for system in speech $systems; do
    if [ -f "$models/$system/model.pt" ] && begin "8-$system" "decoding" --books exp --uses decoding features \
        --after 1-librispeech --reads "$models/$system/model.pt" "$models_data"/lm/*.bin "$lang/lexicon.txt" \
        "$data_dir/audio" "$data_dir"/cuts/{librispeech,dali,ultrastar,jamendo}_{validation,test}.jsonl.gz \
        --writes "$exp_dir/hypotheses/$system"; then
        if [ "$models" = "$exp_dir" ] && [ "$system" != pitch_onset ]; then
            run python -m recipe.tune --system "$system" "${options[@]}"
        fi
        run python -m recipe.decode --system "$system" "${options[@]}"
        finish
    fi
done

if has_corpus jamendo && [ -f "$models/multitask/model.pt" ] && begin 8-alignment "alignment of JamendoLyrics" \
    --books exp --uses alignment features --reads "$models/multitask/model.pt" "$data_dir/songs/jamendo_test.jsonl.gz" \
    "$data_dir/audio/jamendo" --writes "$exp_dir/alignments/multitask/jamendo.json"; then
    run python -m recipe.align --corpus jamendo "${options[@]}"
    finish
fi

if begin 9 "scoring" --books exp --uses scoring --reads "$exp_dir/hypotheses" --writes "$exp_dir/results.json"; then
    run python -m recipe.score "${options[@]}"
    finish
elif [ "$first" -le 9 ] && [ "$last" -ge 9 ]; then
    cat "$exp_dir/RESULTS.md"
fi

if begin 10 "report" --books exp --uses filter.table --reads "$exp_dir/results.json" --writes "$exp_dir/report/report.md"; then
    run python -m recipe.report "${options[@]}"
    finish
fi

exit
}

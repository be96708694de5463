#!/usr/bin/env bash
# Download or generate the text of a data set, or check your own, split it into subwords and binarise it.
#
#   bash scripts/prepare.sh DATA [--from DIR] [--for DIR] [--until STEP] [--restart] [--dry-run]
#   bash scripts/prepare.sh wmt14_en_de --from /path/to/wmt14
#   bash scripts/prepare.sh NAME --text FOLDER --languages SOURCE TARGET [--clean] [--vocabulary-size N] [--scale SCALE]
#   bash scripts/prepare.sh NAME --text FILE.SOURCE FILE.TARGET [--valid-size N] [--test-size N]
#
# DATA is a file name in configs/data, or a NAME given to your own text (see below). The steps are
#
#   originals   download the published archives, if there are any
#   text        extract plain text, {train,valid,test}.LANGUAGE, which also provides the references for scoring (for IWSLT,
#               the train split still contains the valid split here)
#   tokens      tokenise as the Moses scripts do and clean the training pairs (counts.json says how many were dropped); only
#               for WMT and IWSLT, as the other data sets are split into subwords directly
#   subwords    split into subwords with sentencepiece or BPE
#   data-bin    binarise for fairseq, with a joint dictionary
#
# Each step writes the folder runs/DATA/STEP (NMT_KD_RUNS=DIR replaces runs), and originals writes runs/originals. A folder
# appears only when it is complete, and complete ones are kept; rerun to resume an interrupted step or download. To repeat
# a step, delete its folder and those of the later steps.
#
#   --from DIR     instead of downloading, use the archives in DIR, named as in their URLs, or their unpacked contents
#                  (same as ORIGINALS=DIR)
#   --for DIR      use the subwords and dictionaries of a published fairseq model: DIR contains bpecodes, dict.SOURCE.txt
#                  and dict.TARGET.txt. Afterwards, train students on this data with TEACHER=DIR/model.pt.
#   --until STEP   stop after this step; use originals to download on one machine for another without network access
#   --restart      if the text or a setting has changed, remove everything made from the old one and start over (without
#                  this option, a change is an error)
#
# WORKERS=N runs N processes (default: one per core). Data sets of the same year share their downloads in runs/originals.
# As the publishers do not provide SHA-256 checksums, the first download records them in SHA256SUMS next to the archives,
# and an archive that changes later is refused. Copy this file with the archives so that other machines can check them too.
# A few archives have published MD5 checksums, which are checked after the download.
#
# Your own text (see docs/own-data.md) is FOLDER/{train,valid,test*}.LANGUAGE, one sentence per line; every file test* is a
# test set. Without a validation or test set, one is taken from the training text, so two files suffice. The text is
# checked before anything is written. The settings depend on its size and are written to runs/NAME/settings.sh, where you
# can add your own. All scripts then accept NAME as DATA.
#
#   --languages SOURCE TARGET   source and target language (default for two files: the endings of their names)
#   --valid-size N, --test-size N   pairs to take from the training text (default: a tenth each, at most 1,000)
#   --clean               drop empty and very long pairs, and training pairs with a validation or test sentence
#   --vocabulary-size N   number of subwords
#   --scale SCALE         models and training settings: a file name in configs/own
#   --updates N           number of updates of the teacher and of each student
. "$(dirname "$0")/common.sh"
. "$root/scripts/steps.sh"
. "$root/scripts/own_text.sh"

steps="originals text tokens subwords data-bin" until=data-bin model='' restart='' given_text=() own_options=() arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --from | --for | --until)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
        case $1 in
        # multi30k reads MULTI30K_DIR
        --from) export ORIGINALS=$2 MULTI30K_DIR=$2 ;;
        --for) model=$2 ;;
        --until) until=$2 ;;
        esac
        shift
        ;;
    --text)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
        given_text=("$2")
        if [ -f "$2" ]; then
            [ $# -ge 3 ] && [[ "$3" != -* ]] || fail "--text $2 is one file; give two, of the source and the target language"
            given_text+=("$3")
            shift
        fi
        shift
        ;;
    --vocabulary-size | --scale | --updates | --valid-size | --test-size)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
        own_options+=("$1" "$2")
        shift
        ;;
    --languages)
        [ $# -ge 3 ] && [[ "$2$3" != *-* ]] || fail "--languages needs a source and a target language; see --help"
        own_options+=("$1" "$2" "$3")
        shift 2
        ;;
    --clean) own_options+=("$1") ;;
    --restart) restart=yes ;;
    *) arguments+=("$1") ;;
    esac
    shift
done
[[ " $steps " == *" $until "* ]] || fail "unknown step '$until'; choose from $steps"

read_arguments "${arguments[@]}"
[ ${#names[@]} -eq 1 ] || fail "name one data set ($(config_names data))"
[ ${#given_text[@]} -gt 0 ] || [ ${#own_options[@]} -eq 0 ] || fail "${own_options[0]} is for your own text; add --text FOLDER"
[ ${#given_text[@]} -eq 0 ] || draft_settings "${names[0]}"
load_data_config "${names[0]}"
splits=(train valid test "${test_sets[@]:1}")
check_numbers WORKERS
workers=${WORKERS:-$(nproc)}
if [ -n "$model" ]; then
    [ -n "$bpe_operations" ] || fail "--for needs a data set with BPE, but $data uses sentencepiece; leave it out"
    for file in bpecodes "dict.$source_lang.txt" "dict.$target_lang.txt"; do
        [ -f "$model/$file" ] || fail "$model has no $file; give the folder of a published model, with $file next to model.pt"
    done
fi

# download URL [md5:CHECKSUM]: download into $originals, unless the file exists
download() {
    local url=$1 published=${2:-} name=${1##*/} found
    local file=$originals/$name
    [ ! -f "$file" ] || return 0
    run curl --fail --location --silent --show-error --retry 3 --continue-at - --output "$file.partial" "$url" ||
        fail "cannot download $url to $file.partial; rerun to resume, or download it yourself and give its folder with --from"
    [ -z "$dry_run" ] || return 0
    if [ -n "$published" ]; then
        found=$(md5sum "$file.partial" | cut -d' ' -f1)
        [ "md5:$found" = "$published" ] ||
            fail "$file.partial, from $url, has the checksum md5:$found instead of $published; delete the file and rerun"
    fi
    if [ -z "$(noted_checksum "$name")" ]; then
        (cd "$originals" && sha256sum "$name.partial" | sed 's/\.partial$//' >>SHA256SUMS)
    fi
    mv "$file.partial" "$file"
}

noted_checksum() { awk -v name="$1" '$2 == name' "$originals/SHA256SUMS" 2>/dev/null || true; }

# refuse archives that have changed since their first download
check_originals() {
    local url name noted
    for url in $(printf '%s\n' "${corpora[@]}" | awk '!seen[$2]++ { print $2 }'); do
        name=${url##*/}
        noted=$(noted_checksum "$name")
        [ -z "$noted" ] || [ ! -f "$originals/$name" ] ||
            (cd "$originals" && sha256sum --check --status <<<"$noted") ||
            fail "$originals/$name does not match $originals/SHA256SUMS; delete it and rerun (if $url has really changed, also delete its line in SHA256SUMS)"
    done
}

get_originals() {
    local split url member published
    [ -z "${ORIGINALS:-}" ] && [ ! -d "$work/text" ] && [ ${#corpora[@]} -gt 0 ] || return 0
    say "$data: originals (in $originals)"
    if [ -z "$dry_run" ]; then
        # another data set that shares these archives may be in preparation at the same time
        mkdir -p "$originals"
        wait_for_lock "$originals/.lock"
    fi
    while read -r split url member published; do
        download "$url" "$published"
    done < <(printf '%s\n' "${corpora[@]}")
    [ -n "$dry_run" ] || exec {lock}>&-
}

extract() {
    local split url member published flags=()
    while read -r split url member published; do
        flags+=(--corpus "$split" "$url" "$member")
    done < <(printf '%s\n' "${corpora[@]}")
    check_originals
    python "$root/scripts/corpora.py" "$originals" "$1" --languages "$source_lang" "$target_lang" "${flags[@]}"
}

tokenise() {
    python "$root/scripts/moses.py" "$work/text" "$1" --languages "$source_lang" "$target_lang" "${tokenising[@]}" \
        --workers "$workers"
}

split_subwords() {
    local size=(--vocabulary-size "$vocabulary_size" --algorithm "$subword_algorithm")
    [ -z "$bpe_operations" ] || size=(--bpe-operations "$bpe_operations")
    [ -z "$model" ] || size=(--bpe-codes "$model/bpecodes")
    python "$root/scripts/subwords.py" "$sentences" "$1" --languages "$source_lang" "$target_lang" "${size[@]}" \
        --splits "${splits[@]}" --workers "$workers"
}

binarise() {
    local log=$work/binarise.log dictionaries=(--joined-dictionary)
    [ -z "$model" ] || dictionaries=(--srcdict "$model/dict.$source_lang.txt" --tgtdict "$model/dict.$target_lang.txt")
    local tests=("${splits[@]:2}")
    tests=("${tests[@]/#/$work/subwords/}")
    fairseq-preprocess --source-lang "$source_lang" --target-lang "$target_lang" "${dictionaries[@]}" \
        --trainpref "$work/subwords/train" --validpref "$work/subwords/valid" --testpref "$(IFS=, && echo "${tests[*]}")" \
        --workers "$workers" --destdir "$1" >"$log" 2>&1 || { tail -3 "$log" >&2 && fail "binarising failed; see $log"; }
}

originals=${ORIGINALS:-${work%/*}/originals/${originals_name:-$data}}
sentences=$work/text
[ ${#tokenising[@]} -eq 0 ] || sentences=$work/tokens
declare -A settings_of=([text]="" [tokens]="${tokenising[*]}" [subwords]=$(subword_setting "$model") [data-bin]="")
[ ${#own_text[@]} -eq 0 ] ||
    settings_of[text]="$source_lang to $target_lang, test sets ${test_sets[*]}${clean:+, clean}${held_out[*]:+, ${held_out[*]}}"
[ -z "$restart" ] || [ -n "$model" ] || [[ ${settings_of[subwords]} != "BPE codes "* ]] ||
    fail "$work was prepared for a published model; add --for DIR, or remove $work to learn subwords from the text"
if [ ${#own_text[@]} -gt 0 ] && [ -z "$settings_file$dry_run" ] && { [ ! -d "$work/text" ] || [ -n "$restart" ]; }; then
    check_text
fi
if [ -z "$dry_run" ]; then # another prepare.sh for this data set must end first
    mkdir -p "$work"
    wait_for_lock "$work/.prepare.lock"
fi
for name in ${steps#originals}; do check_step "$name"; done
[ -z "$settings_file" ] || [ -n "$dry_run" ] || save_settings

get_originals
[ "$until" != originals ] || exit 0
if [ ${#own_text[@]} -gt 0 ]; then
    step text copy_text
elif [ ${#corpora[@]} -gt 0 ]; then
    step text extract
else
    step text write_text
fi
[ ${#tokenising[@]} -eq 0 ] || step tokens tokenise
[ "$until" != tokens ] || exit 0 # also if this data set is not tokenised
step subwords split_subwords
step data-bin binarise

#!/usr/bin/env bash
# Download or generate the text of a data set, split it into subwords and binarise it.
#
#   bash scripts/prepare.sh DATA [--from DIR] [--for DIR] [--until STEP] [--dry-run]
#   bash scripts/prepare.sh wmt14_en_de --from /path/to/wmt14
#
# DATA is a file name in configs/data. The steps are
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
# appears only when it is complete, and existing ones are kept; rerun to resume at the interrupted step or download. To
# repeat a step, delete its folder and those of the later steps.
#
#   --from DIR     instead of downloading, use the archives in DIR, named as in their URLs, or their unpacked contents
#                  (same as ORIGINALS=DIR)
#   --for DIR      use the subwords and dictionaries of a published fairseq model: DIR contains bpecodes, dict.SOURCE.txt
#                  and dict.TARGET.txt. Afterwards, train students on this data with TEACHER=DIR/model.pt.
#   --until STEP   stop after this step; use originals to download on one machine for another without network access
#
# WORKERS=N runs N processes (default: one per core). Data sets of the same year share their downloads in runs/originals.
# As the publishers do not provide SHA-256 checksums, the first download records them in SHA256SUMS next to the archives,
# and an archive that changes later is refused. Copy this file with the archives so that other machines can check them too.
# A few archives have published MD5 checksums, which are checked after the download.
. "$(dirname "$0")/common.sh"

steps="originals text tokens subwords data-bin" until=data-bin model='' arguments=()
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
    *) arguments+=("$1") ;;
    esac
    shift
done
[[ " $steps " == *" $until "* ]] || fail "unknown step '$until'; choose from $steps"
read_arguments "${arguments[@]}"
[ ${#names[@]} -eq 1 ] || fail "name one data set ($(config_names data))"
corpora=() tokenising=() bpe_operations='' # defaults, which the data set's file may override
load_data_config "${names[0]}"
workers=${WORKERS:-$(nproc)}
if [ -n "$model" ]; then
    [ -n "$bpe_operations" ] || fail "--for needs a data set with BPE, but $data uses sentencepiece; leave it out"
    for file in bpecodes "dict.$source_lang.txt" "dict.$target_lang.txt"; do
        [ -f "$model/$file" ] || fail "$model has no $file; give the folder of a published model, with $file next to model.pt"
    done
fi

# step NAME SETTINGS COMMAND...: run COMMAND with a new folder as its last argument, which becomes $work/NAME. If there are
# SETTINGS, they are saved in it, so that a result made with other settings is not reused.
step() {
    local name=$1 settings=$2 partial=$work/$1.partial kept=$work/$1/settings
    shift 2
    if [ ! -d "$work/$name" ] || [ -n "$dry_run" ]; then
        say "$data: $name"
        [ -n "$dry_run" ] || { rm -rf "$partial" && mkdir -p "$partial"; }
        run "$@" "$partial"
        if [ -z "$dry_run" ]; then
            [ -z "$settings" ] || echo "$settings" >"$partial/settings"
            mv "$partial" "$work/$name"
        fi
    elif [ -n "$settings" ] && [ "$settings" != "$(cat "$kept" 2>/dev/null)" ]; then
        fail "$work/$name was made with other settings (see $kept) than '$settings'; delete it and the folders of the later steps, then rerun"
    fi
    [ "$until" != "$name" ] || exit 0
}

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
        exec {lock}>"$originals/.lock"
        flock "$lock"
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
    local size=(--vocabulary-size "${vocabulary_size:-}")
    [ -z "$bpe_operations" ] || size=(--bpe-operations "$bpe_operations")
    [ -z "$model" ] || size=(--bpe-codes "$model/bpecodes")
    python "$root/scripts/subwords.py" "$sentences" "$1" --languages "$source_lang" "$target_lang" "${size[@]}" \
        --workers "$workers"
}

binarise() {
    local log=$work/binarise.log dictionaries=(--joined-dictionary)
    [ -z "$model" ] || dictionaries=(--srcdict "$model/dict.$source_lang.txt" --tgtdict "$model/dict.$target_lang.txt")
    fairseq-preprocess --source-lang "$source_lang" --target-lang "$target_lang" "${dictionaries[@]}" \
        --trainpref "$work/subwords/train" --validpref "$work/subwords/valid" --testpref "$work/subwords/test" \
        --workers "$workers" --destdir "$1" >"$log" 2>&1 || { tail -3 "$log" >&2 && fail "binarising failed; see $log"; }
}

originals=${ORIGINALS:-${work%/*}/originals/${originals_name:-$data}}
sentences=$work/text
get_originals
[ "$until" != originals ] || exit 0
if [ ${#corpora[@]} -gt 0 ]; then
    step text "" extract
else
    step text "" write_text
fi
if [ ${#tokenising[@]} -gt 0 ]; then
    step tokens "${tokenising[*]}" tokenise
    sentences=$work/tokens
fi
subword_settings=${bpe_operations:+$bpe_operations BPE operations}
of_a_model="BPE codes "
if [ -n "$model" ]; then
    subword_settings=$of_a_model$(sha256sum <"$model/bpecodes" | cut -c1-12)
elif [[ "$(cat "$work/subwords/settings" 2>/dev/null)" == "$of_a_model"* ]]; then
    subword_settings=$(cat "$work/subwords/settings") # data prepared with --for can be rerun without it
fi
step subwords "$subword_settings" split_subwords
step data-bin "" binarise

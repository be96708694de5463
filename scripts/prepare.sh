#!/usr/bin/env bash
# Get a data set's text, cut it into subwords and binarise it.
#
#   bash scripts/prepare.sh DATA [--from DIR] [--for DIR] [--until STEP] [--dry-run]
#   bash scripts/prepare.sh wmt14_en_de --from /path/to/wmt14
#
# DATA is a file name in configs/data. The steps are
#
#   originals   the archives, as published, if they have to be downloaded
#   text        {train,valid,test}.LANGUAGE as plain text, as scores of plain text want their references (IWSLT has its
#               valid split in train here)
#   tokens      tokenised as the Moses scripts do, training pairs cleaned (counts.json says what was left out); WMT and
#               IWSLT only, the other data sets have their subwords made of plain text
#   subwords    sentencepiece or BPE
#   data-bin    binarised for fairseq, with one dictionary for both languages
#
# and their results lie in runs/DATA/STEP (NMT_KD_RUNS names another folder than runs). Each step appears under its name only
# when it is complete, and is done once: what was stopped goes on with the step it was in; delete a folder, and those
# after it, to have them made again. A download goes on where it was.
#
#   --from DIR     folder with the archives, named as at the end of their URLs, or with what is in them, unpacked;
#                  nothing is downloaded then. ORIGINALS=DIR does the same.
#   --for DIR      cut and binarise with a model's own subwords and dictionaries: DIR holds bpecodes, dict.SOURCE.txt and
#                  dict.TARGET.txt, as fairseq's published models do. Then TEACHER=DIR/model.pt teaches on this data.
#   --until STEP   stop after this step: with originals, one machine downloads for another without a network
#
# WORKERS=N takes N processes (default: one for each core). Downloads are shared by the data sets of a year, in
# runs/originals. Publishers name no SHA-256, so it is noted at the first download, in SHA256SUMS beside the archives, and an
# archive that is another one later is refused; take that file along with the archives, and it is checked there too. A
# few archives are known by their MD5, which is checked after the download.
. "$(dirname "$0")/common.sh"

steps="originals text tokens subwords data-bin" until=data-bin model='' arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --from | --for | --until)
        [ $# -ge 2 ] || fail "$1 wants a value; see --help"
        case $1 in
        # multi30k has a name of its own for it
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
[[ " $steps " == *" $until "* ]] || fail "no step '$until'; there are: $steps"
read_arguments "${arguments[@]}"
[ ${#names[@]} -eq 1 ] || fail "name one data set; there are: $(config_names data)"
corpora=() tokenising=() bpe_operations='' # a data set's settings may have them
load_data_config "${names[0]}"
workers=${WORKERS:-$(nproc)}
if [ -n "$model" ]; then
    [ -n "$bpe_operations" ] || fail "$data is cut by sentencepiece, --for is for models with BPE codes"
    for file in bpecodes "dict.$source_lang.txt" "dict.$target_lang.txt"; do
        [ -f "$model/$file" ] || fail "$model has no $file; give the folder of a published model, with its $file beside model.pt"
    done
fi

# step NAME SETTINGS COMMAND...: run COMMAND with a new folder as its last argument, which becomes $work/NAME. SETTINGS, if
# there are any, are kept in it: a result that was made with others is not taken for this one.
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
        fail "$work/$name was made with other settings ($kept) than those now ($settings); delete it and what was made of it"
    fi
    [ "$until" != "$name" ] || exit 0
}

# download URL [md5:CHECKSUM]: into the originals, where it is not there already
download() {
    local url=$1 published=${2:-} name=${1##*/} found
    local file=$originals/$name
    [ ! -f "$file" ] || return 0
    run curl --fail --location --silent --show-error --retry 3 --continue-at - --output "$file.partial" "$url" ||
        fail "cannot download $url to $file.partial; run again to go on, or get it yourself and name its folder with --from"
    [ -z "$dry_run" ] || return 0
    if [ -n "$published" ]; then
        found=$(md5sum "$file.partial" | cut -d' ' -f1)
        [ "md5:$found" = "$published" ] ||
            fail "$file.partial, from $url, has the checksum md5:$found, not $published; delete it and run again"
    fi
    if [ -z "$(noted_checksum "$name")" ]; then
        (cd "$originals" && sha256sum "$name.partial" | sed 's/\.partial$//' >>SHA256SUMS)
    fi
    mv "$file.partial" "$file"
}

noted_checksum() { awk -v name="$1" '$2 == name' "$originals/SHA256SUMS" 2>/dev/null || true; }

# refuse archives that are no longer what they were at first
check_originals() {
    local url name noted
    for url in $(printf '%s\n' "${corpora[@]}" | awk '!seen[$2]++ { print $2 }'); do
        name=${url##*/}
        noted=$(noted_checksum "$name")
        [ -z "$noted" ] || [ ! -f "$originals/$name" ] ||
            (cd "$originals" && sha256sum --check --status <<<"$noted") ||
            fail "$originals/$name is not what $originals/SHA256SUMS says; delete it and run again, and if $url has changed for good, delete its line there too"
    done
}

get_originals() {
    local split url member published
    [ -z "${ORIGINALS:-}" ] && [ ! -d "$work/text" ] && [ ${#corpora[@]} -gt 0 ] || return 0
    say "$data: originals (in $originals)"
    if [ -z "$dry_run" ]; then
        # data sets of a year share their archives, and may be prepared at the same time
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
    subword_settings=$(cat "$work/subwords/settings") # once prepared for a model, the data stay so
fi
step subwords "$subword_settings" split_subwords
step data-bin "" binarise

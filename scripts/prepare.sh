#!/usr/bin/env bash
# Get the text of a data set, split it into subwords and binarise it.
#
#   bash scripts/prepare.sh DATA [--from DIR] [--for DIR] [--until STEP] [--dry-run]
#   bash scripts/prepare.sh wmt14_en_de --from /path/to/wmt14
#   bash scripts/prepare.sh NAME --text FOLDER --languages SOURCE TARGET [--clean] [--vocabulary-size N] [--scale SCALE]
#
# The last prepares your own text and makes NAME a data set for all scripts; see the end. Otherwise, DATA is a file name in configs/data. The steps are
#
#   originals   the published archives, if they have to be downloaded
#   text        {train,valid,test}.LANGUAGE as plain text, which also provides the references for scoring (the train split
#               of IWSLT contains its valid split here)
#   tokens      text tokenised as by the Moses scripts, with cleaned training pairs (counts.json counts those dropped); for
#               WMT and IWSLT only, as the other data sets are split into subwords directly
#   subwords    text split into subwords by sentencepiece or BPE
#   data-bin    data binarised for fairseq, with a joint dictionary
#
# and STEP writes runs/DATA/STEP (NMT_KD_RUNS=DIR replaces runs). Each folder appears only when it is complete, and existing
# ones are kept; rerun to resume at the interrupted step, or an interrupted download where it stopped. To repeat a step,
# delete its folder and the later ones.
#
#   --from DIR     use the archives in DIR, named as in their URLs, or their unpacked contents, instead of downloading
#                  them; same as ORIGINALS=DIR
#   --for DIR      use the subwords and dictionaries of a published fairseq model: DIR contains bpecodes, dict.SOURCE.txt
#                  and dict.TARGET.txt. Afterwards, TEACHER=DIR/model.pt can teach on this data.
#   --until STEP   stop after this step; with originals, to download on one machine for another without a network
#   --restart      if the text or a setting has changed, remove all that was made of the old one and start over, instead
#                  of refusing the change
#
# WORKERS=N runs N processes (default: one per core). Data sets of the same year share their downloads, in runs/originals.
# As the publishers do not provide SHA-256 checksums, the first download records them in SHA256SUMS next to the archives,
# and an archive that changes later is refused; copy this file along with the archives to have them checked elsewhere too.
# The MD5 checksums of a few archives are known, and checked after the download.
#
# Your own text (see docs/own-data.md) is FOLDER/{train,valid,test*}.LANGUAGE, one sentence per line; every file test*
# is a test set. It is checked before anything is written. The settings follow from its size and go to
# runs/NAME/settings.sh, to which you can add your own.
#
#   --languages S T       translate from S to T
#   --clean               drop empty and very long pairs, and training pairs with a validation or test sentence
#   --vocabulary-size N   number of subwords
#   --scale SCALE         models and training settings: a file name in configs/own
#   --updates N           number of updates of the teacher and of the students
. "$(dirname "$0")/common.sh"

steps="originals text tokens subwords data-bin" until=data-bin model='' restart='' own_text='' own_options=() arguments=()
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
    --text | --vocabulary-size | --scale | --updates)
        [ $# -ge 2 ] || fail "$1 needs a value; see --help"
        [ "$1" = --text ] && own_text=$2 || own_options+=("$1" "$2")
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

# draft_settings NAME: check the user's text and write its settings to a new file, $settings_file
draft_settings() {
    local present=${NMT_KD_RUNS:-$root/runs}/$1
    [[ "$1" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ && "$1" != originals ]] ||
        fail "cannot name a data set '$1'; use letters, digits, '_', '.' and '-'"
    [ ! -f "$root/configs/data/$1.sh" ] || fail "$1 is a data set of this project; choose another name for your text"
    [ -d "$own_text" ] || fail "--text $own_text is not a folder; give the one that contains train.LANGUAGE"
    own_text=$(cd "$own_text" && pwd)
    [[ "$own_text/" != "$(realpath -m "$present")/"* ]] || fail "move $own_text out of $present, where prepared text goes"
    settings_file=$(mktemp)
    trap 'rm -f "$settings_file"' EXIT
    python "$root/scripts/own_data.py" settings "$1" "$own_text" "${own_options[@]}" --keep "$present/settings.sh" \
        >"$settings_file" || exit 1
}

read_arguments "${arguments[@]}"
[ ${#names[@]} -eq 1 ] || fail "name one data set ($(config_names data))"
corpora=() tokenising=() bpe_operations='' text_folder='' clean='' # defaults, which the data set's file may override
[ -n "$own_text" ] || [ ${#own_options[@]} -eq 0 ] || fail "${own_options[0]} is for your own text; add --text FOLDER"
[ -z "$own_text" ] || draft_settings "${names[0]}"
load_data_config "${names[0]}"
splits=(train valid test "${test_sets[@]:1}")
workers=${WORKERS:-$(nproc)}
if [ -n "$model" ]; then
    [ -n "$bpe_operations" ] || fail "--for needs a data set with BPE, but $data uses sentencepiece; leave it out"
    for file in bpecodes "dict.$source_lang.txt" "dict.$target_lang.txt"; do
        [ -f "$model/$file" ] || fail "$model has no $file; give the folder of a published model, with $file next to model.pt"
    done
fi

# check_step NAME: refuse a folder $work/NAME that was made with other settings or of other text, or, with --restart,
# remove it with all that was made of it
check_step() {
    local name=$1 settings=${settings_of[$1]} kept=$work/$1/settings files changed
    [ -d "$work/$name" ] || return 0
    if [ -n "$settings" ] && [ -f "$kept" ] && [ "$settings" != "$(cat "$kept")" ]; then
        [ -n "$restart" ] || fail "$work/$name was made with other settings ('$(cat "$kept")') than '$settings'; add --restart" \
            "to remove it and all that was made of it"
        remove_from "$name"
        return
    fi
    mapfile -t files < <(inputs_of "$name")
    changed=$(python "$root/scripts/inputs.py" check "$work/$name" "${files[@]}") || {
        [ -n "$restart" ] || fail "$changed has changed since $work/$name was made of it; restore it, or add --restart to" \
            "remove $work/$name and all that was made of it"
        remove_from "$name"
    }
}

# inputs_of STEP: the files that a step reads
inputs_of() {
    local folder split
    case $1 in
    text) folder=$text_folder ;;
    tokens) folder=$work/text ;;
    subwords) folder=$sentences ;;
    data-bin) folder=$work/subwords ;;
    esac
    [ -n "$folder" ] || return 0
    for split in train valid $([ "$1" = text ] && echo "${test_sets[@]}" || echo "${splits[@]:2}"); do
        printf '%s\n' "$folder/$split.$source_lang" "$folder/$split.$target_lang"
    done
}

# remove_from STEP: remove the folders of this step and the later ones, and all systems and corpora made of them
remove_from() {
    local name reached='' removed=()
    for name in $steps; do
        [ "$name" != "$1" ] || reached=yes
        [ -z "$reached" ] || removed+=("$work/$name")
    done
    removed+=("$work"/data-bin-* "$work"/decoded* "$work"/reports "$work"/results.{md,json})
    for name in "$work"/*/; do
        [ ! -f "$name/flags" ] && [ ! -f "$name/train.log" ] || removed+=("${name%/}")
    done
    for name in "${removed[@]}"; do
        [ ! -e "$name" ] || run rm -rf "$name"
    done
}

# step NAME COMMAND...: run COMMAND with a new folder as its last argument, which becomes $work/NAME. Its settings and the
# checksums of what it read are saved in it, so that a result made with others is not reused.
step() {
    local name=$1 settings=${settings_of[$1]} partial=$work/$1.partial files
    shift
    mapfile -t files < <(inputs_of "$name")
    check_step "$name"
    if [ ! -d "$work/$name" ] || [ -n "$dry_run" ]; then
        say "$data: $name"
        [ -n "$dry_run" ] || { rm -rf "$partial" && mkdir -p "$partial"; }
        run "$@" "$partial"
        if [ -z "$dry_run" ]; then
            [ -z "$settings" ] || echo "$settings" >"$partial/settings"
            [ ${#files[@]} -eq 0 ] || python "$root/scripts/inputs.py" note "$partial" "${files[@]}"
            mv "$partial" "$work/$name"
        fi
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
            fail "$file.partial, from $url, has the checksum md5:$found instead of $published; delete it and rerun"
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
            fail "$originals/$name does not match $originals/SHA256SUMS; delete it and rerun, and if $url has changed for good, delete its line there too"
    done
}

get_originals() {
    local split url member published
    [ -z "${ORIGINALS:-}" ] && [ ! -d "$work/text" ] && [ ${#corpora[@]} -gt 0 ] || return 0
    say "$data: originals (in $originals)"
    if [ -z "$dry_run" ]; then
        # data sets that share archives may be prepared at the same time
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

copy_text() {
    python "$root/scripts/own_data.py" text "$text_folder" "$1" --languages "$source_lang" "$target_lang" ${clean:+--clean}
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
subword_settings="${bpe_operations:-${vocabulary_size:-}} ${bpe_operations:+BPE operations}${vocabulary_size:+subwords}"
of_a_model="BPE codes "
if [ -n "$model" ]; then
    subword_settings=$of_a_model$(sha256sum <"$model/bpecodes" | cut -c1-12)
elif [[ "$(cat "$work/subwords/settings" 2>/dev/null)" == "$of_a_model"* ]]; then
    subword_settings=$(cat "$work/subwords/settings") # data prepared for a published model stay that way
fi
declare -A settings_of=([text]="" [tokens]="${tokenising[*]}" [subwords]=$subword_settings [data-bin]="")
[ -z "$text_folder" ] || settings_of[text]="$source_lang to $target_lang, test sets ${test_sets[*]}${clean:+, clean}"
for name in ${steps#originals}; do check_step "$name"; done
[ -z "$settings_file" ] || [ -n "$dry_run" ] || { mkdir -p "$work" && mv "$settings_file" "$work/settings.sh"; }

get_originals
[ "$until" != originals ] || exit 0
if [ -n "$text_folder" ]; then
    step text copy_text
elif [ ${#corpora[@]} -gt 0 ]; then
    step text extract
else
    step text write_text
fi
[ ${#tokenising[@]} -eq 0 ] || step tokens tokenise
step subwords split_subwords
step data-bin binarise

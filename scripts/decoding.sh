# The checks and the decoding of distill.sh, which sources this after common.sh and sets the variables.

# refuse a corpus that cannot be assembled, before anything is decoded
check_corpus() {
    local part number seen=' ' parts
    IFS=+ read -ra parts <<<"$corpus"
    [ ${#parts[@]} -gt 0 ] && [ "${corpus%+}" = "$corpus" ] || fail "name the parts of the corpus, such as base+kd, not '$corpus'"
    for part in "${parts[@]}"; do
        [ "$part" != qe ] || fail "'qe' needs a COMET model, which this script does not take; choose another corpus here," \
            "then run: nmt-kd assemble $decoded=$corpus --data $work/data-bin --qe-comet MODEL --output $assembled"
        [[ $part =~ ^(base|kd|best-[1-9][0-9]*|inter|mbr|bt)$ ]] ||
            fail "unknown corpus part '$part'; choose from base, kd, best-2 (or another number), inter, mbr, bt, joined by '+'"
        [[ $seen != *" $part "* ]] || fail "the corpus $corpus has the part '$part' twice; name it once"
        seen+="$part "
    done
    for ((number = 0; number < ${#extra[@]}; number++)); do
        case ${extra[number]} in
        --nbest) nbest=${extra[number + 1]:-$nbest} ;;
        --nbest=*) nbest=${extra[number]#--nbest=} ;;
        esac
    done
    [ "$corpus" != bt ] || fail "a corpus cannot consist of 'bt' alone; add a part, such as base+bt"
    [ -z "${TRANSLATIONS:-}" ] || return 0 # its lists may have any length
    [[ $nbest =~ ^[1-9][0-9]*$ ]] || fail "--nbest is '$nbest', but must be a number of 1 or more"
    ! has mbr || [ "$nbest" -ge 2 ] || fail "'mbr' compares several translations of each sentence; choose kd, or a larger --nbest"
    for part in "${parts[@]}"; do
        [[ $part != best-* ]] || { [ "${part#best-}" -ge 2 ] && [ "${part#best-}" -le "$nbest" ]; } ||
            fail "'$part' needs ${part#best-} translations of each sentence, but there are $nbest; choose kd, or best-2 to best-$nbest," \
                "or add -- --nbest ${part#best-}"
    done
}

has() { [[ +$corpus+ == *+$1+* ]]; }

# the kind of teacher: translations, checkpoint (of fairseq) or translator (whatever else nmt-kd decode takes)
kind_of_teacher() {
    local first=${teacher%%:*}
    if [ -n "${TRANSLATIONS:-}" ]; then
        echo translations
    elif [ -f "$first" ] || [[ $first == *.pt ]]; then
        echo checkpoint
    else
        echo translator
    fi
}

# check_decoding FOLDER TEACHER_PART...: refuse translations by another teacher, of other data or by another search
check_decoding() {
    local changed
    [ -z "$dry_run" ] && [ -d "$1" ] || return 0
    changed=$(differences "$1.json" "${@:2}" "${of_data[@]}" -- "${search[@]}" "${extra[@]}")
    [ -z "$changed" ] || fail "this run differs from the one that made $1 ($changed); restore the earlier" \
        "settings, or add --restart to decode again"
}

# read_shard: set $shard and $shards to the part of the training set to decode: all of it, or that of SHARD=K/N
read_shard() {
    shard=0 shards=1
    [ -n "${SHARD:-}" ] || return 0
    [[ $SHARD =~ ^(0|[1-9][0-9]*)/[1-9][0-9]*$ ]] && [ "${SHARD%/*}" -lt "${SHARD#*/}" ] ||
        fail "SHARD=$SHARD must be K/N, with K from 0 to N-1, such as 0/4"
    [ "$kind" != translations ] || fail "TRANSLATIONS are imported in one go; leave out SHARD"
    [ -z "$restart" ] || fail "--restart would remove what other shards have decoded; remove $decoded yourself, then start all" \
        "shards without it"
    shard=${SHARD%/*} shards=${SHARD#*/}
}

# fail if another distill.sh works on this data set; several may decode a shard each
lock_translations() {
    take_lock "$decoded.lock" "$decoded is in use by another distill.sh" ${SHARD:+--shared}
}

# note_decoding FOLDER TEACHER_PART...: record the teacher, data and search of complete translations
note_decoding() {
    [ -n "$dry_run" ] ||
        python "$root/scripts/record.py" write "$1.json" "${@:2}" "${of_data[@]}" -- "${search[@]}" "${extra[@]}"
}

# the teacher, or the file of translations, as parts for scripts/record.py
teacher_parts() {
    local file files
    case $kind in
    checkpoint)
        IFS=: read -ra files <<<"$teacher"
        for file in "${files[@]}"; do echo "teacher@$file"; done
        ;;
    translations) echo "translations@$TRANSLATIONS" ;;
    translator)
        if [ -d "$teacher" ]; then
            find -L "$teacher" -type f | sort | sed 's/^/teacher@/'
        else
            echo "teacher=$teacher" # on the hub
        fi
        ;;
    esac
}

# the data and translations that a corpus is made from, as parts for scripts/record.py
corpus_parts() {
    printf '%s\n' "corpus=$corpus" "${of_data[@]}"
    files_of translations "$decoded"/manifest.json "$decoded"/shards/*
    ! has bt || files_of "back-translations" "$decoded-reverse"/manifest.json "$decoded-reverse"/shards/*
}

# refuse a teacher that is missing or that cannot make the corpus, before anything is decoded
check_teacher() {
    local file files
    case $kind in
    checkpoint)
        IFS=: read -ra files <<<"$teacher"
        ! has bt || files+=("$reverse_teacher")
        for file in "${files[@]}"; do
            [ -f "$file" ] || fail "the teacher's checkpoint $file is missing; train it with: bash scripts/train.sh $data" \
                "$([ "$file" = "$reverse_teacher" ] && echo "reverse_teacher, or give another with REVERSE_TEACHER=PATH" ||
                    echo "teacher, or give another with TEACHER=PATH")"
        done
        ;;
    *)
        [ "$kind" = translator ] || [ -f "$TRANSLATIONS" ] || fail "TRANSLATIONS=$TRANSLATIONS is not a file; give the file of translations"
        ! has bt || fail "'bt' needs a fairseq checkpoint as the teacher; leave out 'bt', or decode separately" \
            "and combine the folders with nmt-kd assemble"
        [ ${#tokenising[@]} -eq 0 ] || fail "$data is tokenised, but other teachers than fairseq checkpoints translate plain" \
            "text; see docs/own-data.md"
        ;;
    esac
}

# decode SOURCE_LANGUAGE TARGET_LANGUAGE TEACHER FOLDER: translate the source side of the training set into FOLDER
decode() {
    decode_in_parallel "$4" fairseq-generate "$work/data-bin" --user-dir "$root/nmt_kd" --task seq_kd --source-lang "$1" \
        --target-lang "$2" --gen-subset train --path "$3" --distill-dir "$4" --nbest "$nbest" "${generation[@]}" \
        "${device_flags[@]}" --no-progress-bar "${decoding[@]}" "${extra[@]}"
}

# decode_in_parallel FOLDER COMMAND...: run a command that fills the folder in $workers processes
decode_in_parallel() {
    local worker pid folder=$1
    shift
    say "$data: decoding the training set into $folder (log: $folder.log)"
    if [ -n "$dry_run" ]; then
        run "$@"
        return
    fi
    # a run that failed before it decoded anything leaves only its settings, which may have changed since
    [ -n "${SHARD:-}" ] || contains "$folder/shards" "*" || rm -rf "$folder" "$folder.cost.json"
    for ((worker = 0; worker < workers; worker++)); do
        LOCAL_RANK=$worker python "$root/scripts/measure.py" "$folder.cost.json" "$@" \
            --num-shards $((shards * workers)) --shard-id $((shard * workers + worker)) \
            > >(tee -a "$folder.log" | grep --line-buffered -E "sentences/s|[Ee]rror: ") 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "decoding failed; see $folder.log, then rerun to resume"
    done
    pids=()
}

# translate the plain text of the training set with a teacher of any kind
decode_text() {
    local flags # nmt-kd decode has fewer options than fairseq-generate
    mapfile -t flags < <(printf '%s\n' "${generation[@]}" | grep --no-group-separator -x -A 1 -E -e "--(beam|lenpen)")
    decode_in_parallel "$decoded" nmt-kd decode --teacher "$teacher" --sources "$work/text/train.$source_lang" \
        --output "$decoded" --source-lang "$source_lang" --target-lang "$target_lang" --nbest "$nbest" "${flags[@]}" "${extra[@]}"
}

import_text() {
    local sources=(--sources "$work/text/train.$source_lang")
    case $TRANSLATIONS in
    *.tsv | *.jsonl) has base || has inter || sources=() ;; # they have sources, which references must be parallel to
    esac
    say "$data: importing $TRANSLATIONS into $decoded"
    run nmt-kd import "$TRANSLATIONS" "${sources[@]}" --source-lang "$source_lang" --target-lang "$target_lang" \
        --output "$decoded" "${extra[@]}"
}

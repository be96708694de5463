# The steps of prepare.sh. Each writes a folder; if its settings or its input change later, prepare.sh refuses to use it.

# step NAME COMMAND...: run COMMAND with a new folder as its last argument, and rename the folder to $work/NAME. Settings
# and checksums of the input are stored with it, so that a result made from others is not reused.
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

# check_step NAME: refuse a folder $work/NAME that was made with other settings or from other text, or, with --restart,
# remove it and everything made from it
check_step() {
    local name=$1 settings=${settings_of[$1]} kept=$work/$1/settings files changed
    [ -d "$work/$name" ] || return 0
    if [ -n "$settings" ] && [ -f "$kept" ] && [ "$settings" != "$(cat "$kept")" ]; then
        [ -n "$restart" ] || fail "$work/$name was made with other settings: '$(cat "$kept")', now '$settings'; restore them, or add" \
            "--restart to remove $work/$name and everything made from it"
        remove_from "$name"
        return
    fi
    mapfile -t files < <(inputs_of "$name")
    changed=$(python "$root/scripts/inputs.py" check "$work/$name" "${files[@]}") || {
        [ $? -eq 3 ] || fail "cannot compare $work/$name with the text that it was made from (see above)"
        [ -n "$restart" ] || fail "$changed has changed since $work/$name was made from it; restore it, or add --restart to" \
            "remove $work/$name and everything made from it"
        remove_from "$name"
    }
}

# inputs_of STEP: the files that a step reads
inputs_of() {
    local folder='' split tests=("${splits[@]:2}")
    case $1 in
    text)
        [ ${#own_text[@]} -ne 2 ] || printf '%s\n' "${own_text[@]}"
        [ ${#own_text[@]} -ne 1 ] || folder=${own_text[0]} tests=("${test_sets[@]}")
        ;;
    tokens) folder=$work/text ;;
    subwords) folder=$sentences ;;
    data-bin) folder=$work/subwords ;;
    esac
    [ -n "$folder" ] || return 0
    for split in train valid "${tests[@]}"; do
        printf '%s\n' "$folder/$split.$source_lang" "$folder/$split.$target_lang"
    done
}

# remove_from STEP: remove the folders of this step and the later ones, and all systems and corpora made from them
remove_from() {
    local name reached='' removed=()
    for name in $steps; do
        [ "$name" != "$1" ] || reached=yes
        [ -z "$reached" ] || removed+=("$work/$name")
    done
    removed+=("$work"/data-bin-* "$work"/decoded* "$work"/{stores,logs,reports} "$work"/results.{md,json} "$work/comparison.json")
    for name in "$work"/*/; do
        [ ! -d "$name/records" ] && [ ! -f "$name/flags" ] && [ ! -f "$name/train.log" ] || removed+=("${name%/}")
    done
    for name in "${removed[@]}"; do
        [ ! -e "$name" ] || run rm -rf "$name"
    done
}

# The user's own text, for prepare.sh --text.

# draft_settings NAME: check the text in $given_text, a folder or two files, and write its settings to a new file,
# $settings_file
draft_settings() {
    local present=${NMT_KD_RUNS:-$root/runs}/$1 place
    [[ "$1" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ && "$1" != originals ]] ||
        fail "cannot name a data set '$1'; use letters, digits, '_', '.' and '-'"
    [ ! -f "$root/configs/data/$1.sh" ] || fail "$1 is a data set of this project; choose another name for your text"
    [ ${#given_text[@]} -eq 2 ] || [ -d "${given_text[0]}" ] ||
        fail "--text ${given_text[0]} is not a folder; give the one that contains train.LANGUAGE, or two files"
    for place in "${given_text[@]}"; do
        [[ "$(realpath -m "$place")/" != "$(realpath -m "$present")/"* ]] ||
            fail "move $place out of $present, where prepared text goes"
    done
    settings_file=$(mktemp)
    trap 'rm -f "$settings_file"' EXIT
    python "$root/scripts/own_data.py" settings "$1" "${given_text[@]}" "${own_options[@]}" --keep "$present/settings.sh" \
        >"$settings_file" || exit 1
}

# save_settings: keep what draft_settings has written, with the permissions of any new file
save_settings() {
    mkdir -p "$work"
    cat "$settings_file" >"$work/settings.sh.partial"
    mv "$work/settings.sh.partial" "$work/settings.sh"
}

copy_text() {
    python "$root/scripts/own_data.py" text "${own_text[@]}" "$1" --languages "$source_lang" "$target_lang" "${held_out[@]}" \
        ${clean:+--clean}
}

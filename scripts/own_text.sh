# The user's own text, for prepare.sh --text.

# draft_settings NAME: check the text in $given_text, a folder or two files, and write its settings to a new file,
# $settings_file
draft_settings() {
    local present=${NMT_KD_RUNS:-$root/runs}/$1 place
    [[ "$1" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || fail "cannot name a data set '$1'; use letters, digits, '_', '.' and '-'"
    [ "$1" != originals ] || fail "cannot name a data set 'originals', which is the folder for downloads; choose another name"
    [ ! -f "$root/configs/data/$1.sh" ] || fail "$1 is a data set of this project; choose another name for your text"
    [ ${#given_text[@]} -eq 2 ] || [ -d "${given_text[0]}" ] ||
        fail "--text ${given_text[0]} is not a folder; give the one that contains train.LANGUAGE, or two files"
    for place in "${given_text[@]}"; do
        [[ "$(realpath -m "$place")/" != "$(realpath -m "$present")/"* ]] ||
            fail "$place is in $present, which is for prepared data; move your text to another folder"
    done
    settings_file=$(mktemp)
    trap 'rm -f "$settings_file"' EXIT
    python "$root/scripts/own_data.py" settings "$1" "${given_text[@]}" "${own_options[@]}" --keep "$present/settings.sh" \
        >"$settings_file" || exit 1
}

# save_settings: store the settings from draft_settings; a copy, because a file made by mktemp is readable to its owner only
save_settings() {
    mkdir -p "$work"
    cat "$settings_file" >"$work/settings.sh.partial"
    mv "$work/settings.sh.partial" "$work/settings.sh"
}

# refuse text that has changed since its settings were written, and that cannot be used
check_text() {
    python "$root/scripts/check_text.py" "${own_text[@]}" --languages "$source_lang" "$target_lang" "${held_out[@]}" \
        --vocabulary-size "$vocabulary_size" ${clean:+--clean} || exit 1
}

copy_text() {
    python "$root/scripts/own_data.py" text "${own_text[@]}" "$1" --languages "$source_lang" "$target_lang" "${held_out[@]}" \
        ${clean:+--clean}
}

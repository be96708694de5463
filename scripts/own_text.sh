# The user's own text, for prepare.sh --text.

# draft_settings NAME: check the text in $own_text and write its settings to a new file, $settings_file
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

# save_settings: keep what draft_settings has written, with the permissions of any new file
save_settings() {
    mkdir -p "$work"
    cat "$settings_file" >"$work/settings.sh.partial"
    mv "$work/settings.sh.partial" "$work/settings.sh"
}

copy_text() {
    python "$root/scripts/own_data.py" text "$text_folder" "$1" --languages "$source_lang" "$target_lang" ${clean:+--clean}
}

# Multi30k, task 1: English image captions and their German translations (Elliott et al., 2016).
. "$root/configs/models.sh"
. "$root/configs/scale/small.sh"

source_lang=en
target_lang=de
vocabulary_size=6000

teacher_model=($(transformer 3 3 256 1024 4))
teacher_training=(--max-update 2000 --lr 0.001 --warmup-updates 800 --dropout 0.3)
student_model=($(transformer 3 2 64 256 4))
student_training=(--max-update 2000 --lr 0.003 --warmup-updates 800 --dropout 0.1)

multi30k_url=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw

# write {train,valid,test}.{en,de} to the folder $1, from MULTI30K_DIR or the public repository
write_text() {
    local split language file
    for split in train:train valid:val test:test_2016_flickr; do
        for language in en de; do
            file=${split#*:}.$language.gz
            if [ -n "${MULTI30K_DIR:-}" ]; then
                [ -f "$MULTI30K_DIR/$file" ] || fail "$MULTI30K_DIR/$file is missing; get it from $multi30k_url/$file"
                gzip -dc "$MULTI30K_DIR/$file" >"$1/${split%:*}.$language"
            else
                curl --fail --location --silent --show-error --retry 3 "$multi30k_url/$file" | gzip -dc >"$1/${split%:*}.$language" ||
                    fail "cannot download $multi30k_url/$file; put the files into a folder and give it with --from or MULTI30K_DIR"
            fi
        done
    done
}

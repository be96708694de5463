# Multi30k, task 1: English image captions and their German translations (Elliott et al., 2016).
. "$root/configs/models.sh"
. "$root/configs/scale/small.sh"

source_lang=en
target_lang=de
vocabulary_size=4000
test_sets=(test_2016_flickr test_2017_flickr)

# the learning rate falls linearly to almost nothing, so that models are trained out in few updates
max_tokens=2000
effective_tokens=2000
teacher_model=($(transformer 3 3 256 1024 4))
teacher_training=(--max-update 3000 $(linear_decay 3000 400) --lr 0.0015 --dropout 0.2)
decoding=(--distill-backend auto) # CTranslate2, if it is installed, is faster on a CPU and finds the same translations
student_model=($(transformer 3 2 64 256 4))
student_training=(--max-update 2000 $(linear_decay 2000 300) --lr 0.004 --dropout 0.1)

multi30k_url=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw

# write {train,valid,test,test_2017_flickr}.{en,de} to the folder $1, from MULTI30K_DIR or the public repository
write_text() {
    local split language file
    for split in train:train valid:val test:test_2016_flickr test_2017_flickr:test_2017_flickr; do
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

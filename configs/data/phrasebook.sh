# The generated corpus: English-German sentences with numbers, dates, times and prices in words, made by rules. The
# training set is small, so what a student lacks is evidence, not time, and a teacher's distributions supply it.
. "$root/configs/models.sh"
. "$root/configs/scale/small.sh"

source_lang=en
target_lang=de
vocabulary_size=400

teacher_model=($(transformer 2 2 128 512 4))
teacher_training=(--max-update 400 --lr 0.003 --warmup-updates 200 --dropout 0.3)
student_model=($(transformer 1 1 48 96 2))
student_training=(--max-update 700 --lr 0.006 --warmup-updates 200 --dropout 0.0)

# write {train,valid,test}.{en,de} into the folder $1
write_text() { python "$root/scripts/phrasebook.py" "$1"; }

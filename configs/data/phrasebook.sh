# The embedded corpus: rule-made English-German sentences with numbers, dates, times and prices in words. Its training
# set is small, so that what a student lacks is not time but evidence, which a teacher's distributions give.
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

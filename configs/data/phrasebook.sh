# The generated corpus: English-German sentences with numbers, dates, times and prices in words. The training set is so
# small that a student lacks data, not training time; the teacher's distributions make up for that.
. "$root/configs/models.sh"
. "$root/configs/scale/small.sh"

source_lang=en
target_lang=de
vocabulary_size=400

teacher_model=($(transformer 2 2 128 512 4))
teacher_training=(--max-update 400 --lr 0.003 --warmup-updates 200 --dropout 0.3)
student_model=($(transformer 1 1 48 96 2))
student_training=(--max-update 700 --lr 0.006 --warmup-updates 200 --dropout 0.0)

# write {train,valid,test}.{en,de} to the folder $1
write_text() { python "$root/scripts/phrasebook.py" "$1"; }

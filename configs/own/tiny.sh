# Your own text, fewer than 5,000 training pairs: minutes on a CPU. The models are those of the phrasebook.
. "$root/configs/models.sh"
. "$root/configs/scale/small.sh"

teacher_model=($(transformer 2 2 128 512 4))
teacher_training=(--max-update "$updates" --lr 0.003 --warmup-updates 200 --dropout 0.3)
student_model=($(transformer 1 1 48 96 2))
student_training=(--max-update "$updates" --lr 0.006 --warmup-updates 200 --dropout 0.0)

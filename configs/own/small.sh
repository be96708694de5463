# Your own text, 5,000 to 100,000 training pairs: an hour or more on a CPU. The models are those of Multi30k.
. "$root/configs/models.sh"
. "$root/configs/scale/small.sh"

teacher_model=($(transformer 3 3 256 1024 4))
teacher_training=(--max-update "$updates" --lr 0.001 --warmup-updates 800 --dropout 0.3)
student_model=($(transformer 3 2 64 256 4))
student_training=(--max-update "$updates" --lr 0.003 --warmup-updates 800 --dropout 0.1)

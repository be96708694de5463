# Your own text, 100,000 to a million training pairs, for a GPU. The models are those of IWSLT14.
. "$root/configs/models.sh"
. "$root/configs/scale/shared.sh"

training+=(
    --weight-decay 0.0001 --warmup-updates 4000 --warmup-init-lr 1e-7
    --save-interval-updates 1000 --keep-interval-updates 1 --no-epoch-checkpoints
    --log-interval 100
)
teacher_model=($(transformer 6 6 512 1024 4))
teacher_training=(--max-update "$updates" --lr 0.0005 --dropout 0.3)
student_model=($(transformer 3 3 256 512 4))
student_training=(--max-update "$updates" --lr 0.001 --dropout 0.1)
max_tokens=4096
effective_tokens=4096
generation=(--beam 5 --lenpen 1 --max-tokens 8000)
remove_subwords=(--remove-bpe sentencepiece)

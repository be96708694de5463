# What all trainings share, teachers, students, with and without distillation.
training=(
    --label-smoothing 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)" --weight-decay 0.0001 --clip-norm 1.0
    --lr-scheduler inverse_sqrt
    --seed 1
    --save-interval-updates 500 --keep-interval-updates 1 --no-epoch-checkpoints
    --log-format json --log-interval 25
)

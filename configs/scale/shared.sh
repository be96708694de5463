# What all trainings share, teachers, students, with and without distillation, on any data set.
training=(
    --label-smoothing 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)"
    --lr-scheduler inverse_sqrt
    --seed 1
    --log-format json
)

# Combinatorial distillation of hidden layers (Wu et al., 2020).
role=student
method=(--criterion ckd --kd-alpha 0.1 --ckd-lambda 0.7 --ckd-layers rc --ckd-fusion student-up)

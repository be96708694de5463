# TIE-KD: ranking loss and iterative distillation (Zhang et al., 2023).
role=student
method=(--criterion tie_kd --kd-alpha 0.5 --ranking-top-k 5 --kd-iterations 3)

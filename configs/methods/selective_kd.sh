# Selective distillation with global-level selection (Wang et al., 2021).
role=student
method=(--criterion selective_kd --kd-alpha 1 --selection global --selection-rate 0.5 --selection-queue-size 30000)

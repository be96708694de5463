# Sequence-level distillation together with the original pairs (Gordon & Duh, 2019): scripts/distill.sh DATA base+kd.
role=student
corpus=base+kd
method=(--criterion label_smoothed_cross_entropy)

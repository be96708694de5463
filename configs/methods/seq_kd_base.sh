# Sequence-level distillation on the teacher's translations and the original pairs (Gordon & Duh, 2019).
role=student
corpus=base+kd
method=(--criterion label_smoothed_cross_entropy)

# The teacher, trained without distillation.
role=teacher
method=(--criterion label_smoothed_cross_entropy)

# The teacher: the teacher's model, trained without distillation.
role=teacher
method=(--criterion label_smoothed_cross_entropy)

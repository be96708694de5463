# Word-level distillation (Kim & Rush, 2016).
role=student
method=(--criterion word_kd --kd-alpha 0.5)

# Online distillation from the student's own running average (Wei et al., 2019); no teacher.
role=student
without_teacher=yes
method=(--criterion online_kd --kd-alpha 0.5 --online-teacher ema --online-ema-rate 0.01)

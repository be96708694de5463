# Seer forcing: a second decoder that sees the future words (Feng et al., 2021); no teacher.
role=student
without_teacher=yes
method=(--criterion seer_forcing --kd-alpha 0.5 --seer-dropout "${seer_dropout:-0.1}")

# The reverse teacher, which back-translates the targets (Gordon & Duh, 2019).
role=teacher
reversed=yes
method=(--criterion label_smoothed_cross_entropy)

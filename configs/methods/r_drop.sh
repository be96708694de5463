# R-Drop: two passes with different dropout (Liang et al., 2021); no teacher.
role=student
without_teacher=yes
method=(--criterion r_drop --r-drop-alpha 5)

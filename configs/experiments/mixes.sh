# Which mix of original pairs and the teacher's translations is best (Gordon & Duh, 2019; Kim & Rush, 2016)?
system teacher teacher
system plain plain
system seq_kd seq_kd
system seq_kd_base seq_kd_base
CORPUS=best-2 system seq_kd_best_2 seq_kd
CORPUS=base+best-2 system seq_kd_base_best_2 seq_kd
CORPUS=inter system seq_inter seq_kd
system reverse_teacher reverse_teacher
CORPUS=base+kd+bt system seq_kd_base_bt seq_kd

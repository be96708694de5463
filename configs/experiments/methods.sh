# Five methods, the plain student and the teacher (TIE-KD paper, table 6).
system teacher teacher
system plain plain
system word_kd word_kd
system seq_kd seq_kd
system annealing_kd annealing_kd
system selective_kd selective_kd
system tie_kd tie_kd

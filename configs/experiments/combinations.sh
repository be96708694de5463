# Word-level distillation and TIE-KD on the teacher's translations (TIE-KD paper, table 8).
system teacher teacher
system plain plain
system word_kd word_kd
system tie_kd tie_kd
system seq_kd seq_kd
system seq_kd_word_kd seq_kd_word_kd
system seq_kd_tie_kd seq_kd_tie_kd

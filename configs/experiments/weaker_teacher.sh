# A teacher of the same size as the student (TIE-KD paper, section 6.3).
default_teacher=plain
system plain plain
system word_kd_weaker word_kd
system tie_kd_weaker tie_kd

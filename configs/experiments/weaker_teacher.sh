# A teacher of the student's own size (TIE-KD paper, section 6.3).
default_teacher=plain
system plain plain
system word_kd_weaker word_kd
system tie_kd_weaker tie_kd

# A teacher of the student's own size (TIE-KD paper, section 6.3).
system plain plain
teacher=plain system word_kd_weaker word_kd
teacher=plain system tie_kd_weaker tie_kd

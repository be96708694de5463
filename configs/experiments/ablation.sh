# TIE-KD without ranking, without iterations, and without both, which is word_kd (TIE-KD paper, table 7).
system teacher teacher
system plain plain
system tie_kd tie_kd
system tie_kd_no_ranking tie_kd --ranking-top-k 0
system tie_kd_no_iterations tie_kd --kd-iterations 1
system word_kd word_kd

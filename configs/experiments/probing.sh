# Which part of the teacher's distribution carries the knowledge (TIE-KD paper, section 3, tables 2 to 4)?
system teacher teacher
system plain plain
system word_kd word_kd
system word_kd_no_correlation probing_kd --probing-loss top-k --probing-top-k 1
system word_kd_no_top_1 probing_kd --probing-loss no-top-1
for top_k in 3 5 10; do
    system "word_kd_top_$top_k" probing_kd --probing-loss top-k --probing-top-k "$top_k"
done
system word_kd_confidence_0_40 probing_kd --probing-loss all --probing-above 0 --probing-up-to 0.4
system word_kd_confidence_40_70 probing_kd --probing-loss all --probing-above 0.4 --probing-up-to 0.7
system word_kd_confidence_70_100 probing_kd --probing-loss all --probing-above 0.7 --probing-up-to 1

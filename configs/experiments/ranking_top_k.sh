# The number of words of each model in the ranking loss (TIE-KD paper, figure 4).
system teacher teacher
system plain plain
for top_k in 1 3 7 10; do
    system "tie_kd_top_$top_k" tie_kd --ranking-top-k "$top_k"
done
system tie_kd tie_kd

# The number of iterations in TIE-KD (TIE-KD paper, figure 5).
system teacher teacher
system plain plain
for iterations in 1 2 4 5; do
    system "tie_kd_iterations_$iterations" tie_kd --kd-iterations "$iterations"
done
system tie_kd tie_kd

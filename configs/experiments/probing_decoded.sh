# Which tokens of the teacher's translations help: its first choices or the others (TIE-KD paper, section 3, table 5)?
system teacher teacher
system plain plain
system seq_kd seq_kd
for targets in top-1 not-top-1 share-of-top-1 top-1-information; do
    CORPUS=kd system "seq_kd_${targets//-/_}" probing_kd --probing-targets "$targets"
done

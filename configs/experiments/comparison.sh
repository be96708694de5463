# All methods on one code base: the table of docs/results.md. Rows that need no teacher while they train come first.
default_teacher=teacher
top_8=$work/$default_teacher/checkpoint_best.pt
system teacher teacher
system plain plain
store teacher cache --teacher-path "$work/teacher/checkpoint_best.pt" --top-k 8
STORE=teacher system word_kd_stored word_kd

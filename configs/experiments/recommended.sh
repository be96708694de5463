# The recommended recipe, beside plain training: the teacher translates the training set, its predictions for its own
# translations are stored, and the student learns from both.
system teacher teacher
system plain plain
CORPUS=kd store teacher_kd cache --teacher-path "$(teacher_checkpoint)" --top-k 8
CORPUS=kd STORE=teacher_kd system recommended recommended

# The methods after the papers: other divergences, distillation on own samples, and methods without a teacher.
system teacher teacher
system plain plain
system word_kd word_kd
for divergence in reverse-kl js tvd skew-kl skew-reverse-kl adaptive-kl; do
    system "word_kd_${divergence//-/_}" word_kd --kd-divergence "$divergence"
done
system gkd gkd
system r_drop r_drop
system seer_forcing seer_forcing
system online_kd online_kd
# a better teacher by R-Drop
if [ -z "$given_teacher" ]; then
    system teacher_r_drop teacher --criterion r_drop
    default_teacher=teacher_r_drop
    system word_kd_teacher_r_drop word_kd
fi

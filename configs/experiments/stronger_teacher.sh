# A teacher with 18 encoder layers (TIE-KD paper, section 6.3), for data sets of WMT's size. With Admin initialisation as
# in the paper; -- --arch and --encoder-normalize-before choose the pre-norm alternative.
system teacher_deep teacher --arch transformer_vaswani_wmt_en_de_big_18_admin
system plain plain
teacher=teacher_deep system word_kd_stronger word_kd
teacher=teacher_deep system tie_kd_stronger tie_kd

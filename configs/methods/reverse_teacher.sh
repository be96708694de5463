# The reverse teacher, which back-translates the targets (Gordon & Duh, 2019).
role=teacher
reversed=yes
not_evaluated="it translates into $source_lang"
method=(--criterion label_smoothed_cross_entropy)

# A teacher of the other direction, which decodes the targets (back-translation; Gordon & Duh, 2019).
role=teacher
reversed=yes
method=(--criterion label_smoothed_cross_entropy)

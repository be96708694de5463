# WMT14 English-French, 36 million pairs: Europarl v7, Common Crawl, UN, News Commentary v9, Giga-FrEn; newstest2013 and
# newstest2014.
. "$root/configs/scale/wmt.sh"

source_lang=en
target_lang=fr

originals_name=wmt14
# SPLIT URL MEMBER [md5:CHECKSUM], with the member in the syntax of scripts/corpora.py
corpora=(
    "train https://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz training/europarl-v7.fr-en.{lang}"
    "train https://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz commoncrawl.fr-en.{lang}"
    "train https://www.statmt.org/wmt13/training-parallel-un.tgz un/undoc.2000.fr-en.{lang}"
    "train https://www.statmt.org/wmt14/training-parallel-nc-v9.tgz training/news-commentary-v9.fr-en.{lang}"
    "train https://www.statmt.org/wmt10/training-giga-fren.tar giga-fren.release2.fixed.{lang}.gz"
    "valid https://www.statmt.org/wmt14/dev.tgz dev/newstest2013-{side}.{lang}.sgm"
    "test https://www.statmt.org/wmt14/test-full.tgz test-full/newstest2014-fren-{side}.{lang}.sgm md5:a8cd784e006feb32ac6f3d9ec7eb389a"
)
# keeps about 35.8 of 40.8 million pairs, as in the papers
tokenising=(--normalise punctuation --split-hyphens --max-tokens 250 --max-ratio 1.5)
bpe_operations=32000

# 200,000 updates are only five or six epochs, so epoch checkpoints are too far apart to average
training+=(--keep-interval-updates 5)
average=(--last-updates 5)
student_training+=(--max-update 200000)
teacher_training+=(--max-update 300000 $(choose_by_bleu 4 0.6))
generation=(--beam 4 --lenpen 0.6 --max-tokens 8000)

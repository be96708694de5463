# IWSLT14 German-English, 160,000 pairs of TED talks, in lower case, as fairseq's example prepares them: every 23rd pair is
# for validation, the test set is five older ones together.
source_lang=de
target_lang=en

originals_name=iwslt14
iwslt14_url=https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz
# SPLIT URL MEMBER [md5:CHECKSUM], the member as scripts/corpora.py wants it
corpora=(
    "train $iwslt14_url de-en/train.tags.de-en.{lang}"
    "test $iwslt14_url de-en/IWSLT14.TED.dev2010.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TEDX.dev2012.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TED.tst2010.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TED.tst2011.de-en.{lang}.xml"
    "test $iwslt14_url de-en/IWSLT14.TED.tst2012.de-en.{lang}.xml"
)
tokenising=(--normalise apostrophes --lowercase --max-tokens 175 --max-ratio 1.5 --hold-out 23)
bpe_operations=10000

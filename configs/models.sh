# The shapes of models, as fairseq's flags; sourced by the data sets' settings.

# transformer ENCODER_LAYERS DECODER_LAYERS WIDTH FEED_FORWARD_WIDTH HEADS: one vocabulary and one embedding for both sides
transformer() {
    echo --arch transformer_iwslt_de_en --share-all-embeddings \
        --encoder-layers "$1" --encoder-embed-dim "$3" --encoder-ffn-embed-dim "$4" --encoder-attention-heads "$5" \
        --decoder-layers "$2" --decoder-embed-dim "$3" --decoder-ffn-embed-dim "$4" --decoder-attention-heads "$5"
}

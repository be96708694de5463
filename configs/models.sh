# Model sizes as fairseq flags; sourced by the files in configs/data.

# transformer ENCODER_LAYERS DECODER_LAYERS WIDTH FEED_FORWARD_WIDTH HEADS: a transformer with shared embeddings
transformer() {
    echo --arch transformer_iwslt_de_en --share-all-embeddings \
        --encoder-layers "$1" --encoder-embed-dim "$3" --encoder-ffn-embed-dim "$4" --encoder-attention-heads "$5" \
        --decoder-layers "$2" --decoder-embed-dim "$3" --decoder-ffn-embed-dim "$4" --decoder-attention-heads "$5"
}

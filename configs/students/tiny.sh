# Bergamot's tiny: 17.1 million parameters with 32,000 symbols.
student_model=(--arch transformer_student_tiny --share-all-embeddings)

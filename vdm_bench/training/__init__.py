"""What the harness adds to the training of the reference model: its data and its previews."""

"""Facts about the tensors of pretrained weights, one JSON file an entry of the catalogue.

Tensor name -> [shape, offset, CRC32C] for TensorFlow checkpoints, float32 little-endian at that offset of the
data file, read from the checkpoint's index; tensor name -> [shape] for the others.
"""

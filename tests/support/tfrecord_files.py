"""Writes TFRecord files by other people's code: TensorBoard's framing, Google's protocol buffers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray
from tensorboard.summary.writer.record_writer import RecordWriter

_Field = descriptor_pb2.FieldDescriptorProto
_LISTS = (("BytesList", _Field.TYPE_BYTES), ("FloatList", _Field.TYPE_FLOAT), ("Int64List", _Field.TYPE_INT64))


def _example_class() -> Any:
    """The message `Example` of tensorflow/core/example/example.proto and feature.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="test", syntax="proto3")
    for name, kind in _LISTS:
        file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, field) in enumerate(
        zip(_LISTS, ("bytes_list", "float_list", "int64_list"), strict=True), 1
    ):
        feature.field.add(
            name=field, number=number, label=1, type=11, type_name=f".test.{name[0]}", oneof_index=0
        )
    features = file.message_type.add(name="Features")
    features.field.add(name="feature", number=1, label=3, type=11, type_name=".test.Features.FeatureEntry")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".test.Feature")
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=1, type=11, type_name=".test.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Example"))


_EXAMPLE = _example_class()


def encoded(features: Mapping[str, Sequence[bytes] | Sequence[float] | Sequence[int]]) -> bytes:
    """Encode a `tf.train.Example`."""
    example = _EXAMPLE()
    for name, values in features.items():
        feature = example.features.feature[name]
        kind = next((type(value) for value in values), bytes)
        lists = {bytes: feature.bytes_list, float: feature.float_list, int: feature.int64_list}
        lists[kind].value.extend(values)
    return bytes(example.SerializeToString())


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write a TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)
        writer.flush()


def trajectory(main: NDArray[np.uint8], side: NDArray[np.uint8], *, number: int = 0) -> bytes:
    """Encode a trajectory as in BAIR's files, from uint8 [30, 64, 64, 3] of both cameras."""
    features: dict[str, Any] = {}
    for time, (above, beside) in enumerate(zip(main, side, strict=True)):
        features[f"{time}/image_main/encoded"] = [above.tobytes()]
        features[f"{time}/image_aux1/encoded"] = [beside.tobytes()]
        features[f"{time}/endeffector_pos"] = [number + time / 10, 0.5, -0.25]
        features[f"{time}/action"] = [0.0, float(number), float(time), -1.5]
    return encoded(features)

"""Prints the bytes of one event as TensorBoard's own classes write it (the constant in lowbit-lab/src/tensorboard/event_file.rs).

    pip install tensorboard; python golden_events.py
"""

import io

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

value = Summary.Value(tag="a/b", simple_value=0.0)
event = Event(wall_time=1.5, step=3, summary=Summary(value=[value]))
out = io.BytesIO()
RecordWriter(out).write(event.SerializeToString())
print(out.getvalue().hex())

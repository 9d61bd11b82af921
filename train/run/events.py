"""Numbers, pictures and settings for TensorBoard, in the ``events/`` folder of a run.

Written record by record from this thread, not through ``torch.utils.tensorboard``: its writer works in a thread of
its own, which a full disk ends for good, and takes 0.2 s to import. Of the tensorboard package only its protocol
buffers are needed; without the package there are no events, and nothing else changes.
"""

import io
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from train.run.log import AppendedFile, Say, warn

_SPEED = ("seconds_per_step", "samples_per_second", "seconds_waiting")
_SCHEDULE = ("learning_rate",)


def tag(name: str) -> str:
    """Return the tag of a number of the log; TensorBoard shows what shares the part before the slash side by side."""
    held_out = name.removeprefix("validation_")
    if held_out.startswith("real_dice"):
        return f"real/{held_out.removeprefix('real_')}"
    if held_out != name:
        return f"validation/{held_out}"
    if name in _SPEED:
        return f"speed/{name}"
    return f"schedule/{name}" if name in _SCHEDULE else f"loss/{name}"


class Events:
    """One file of events.

    Parameters
    ----------
    folder : Path
    step : int
        Readers drop what an interrupted training wrote after this step.
    say : callable
        Told, in a sentence, if the tensorboard package is missing or the file cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0, say: Say = warn) -> None:
        self._file: AppendedFile | None = None
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        except ImportError:
            say("no curves for TensorBoard: pip install tensorboard to have them; the log and the report do without")
            return
        # Readers sort by name, so the time comes first; to the nanosecond, for a training stopped and resumed at once.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = AppendedFile(folder / name, say)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._add(Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def numbers(self, step: int, entry: dict[str, Any]) -> None:
        """Add the finite numbers of a log entry."""
        if self._file is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag(name), simple_value=value)
            for name, value in entry.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ]
        if values:
            self._summary(step, Summary(value=values))

    def picture(self, step: int, image: np.ndarray, name: str) -> None:
        """Add a picture, uint8 (height, width, 3)."""
        if self._file is None:
            return
        from matplotlib.image import imsave
        from tensorboard.compat.proto.summary_pb2 import Summary

        png = io.BytesIO()
        imsave(png, image, format="png")
        height, width = image.shape[:2]
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.getvalue())
        self._summary(step, Summary(value=[Summary.Value(tag=name, image=shown)]))

    def text(self, step: int, name: str, markdown: str) -> None:
        """Add a text."""
        if self._file is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[markdown.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        self._summary(step, Summary(value=[Summary.Value(tag=name, metadata=metadata, tensor=tensor)]))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _summary(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._add(Event(wall_time=time.time(), step=step, summary=summary))

    def _add(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.write(record.getvalue())

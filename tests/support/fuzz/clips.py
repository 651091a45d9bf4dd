"""Readers of clips and of data sets: videos, pictures, arrays and archives; lists, records and prepared clips."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import tfrecord_files
from PIL import Image
from small_data import folder_protocol

from fuzz.inputs import FRAMES, Reader, each, write
from vdm_bench.datasets.bair import Bair
from vdm_bench.datasets.captioned import open_captioned
from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.kinetics import open_kinetics600
from vdm_bench.datasets.tfrecord import find_records, parse_example
from vdm_bench.datasets.tfrecord import read_record as read_tfrecord
from vdm_bench.datasets.ucf101 import open_ucf101
from vdm_bench.datasets.windows import VideoSet
from vdm_bench.errors import BrokenClipError, MachineError, VdmBenchError
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.protocols.prepare import prepare
from vdm_bench.runtime.progress import Silent
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.write import write_clip


def _video(name: str, codec: str = "") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        if not codec:
            write_clip(folder / name, FRAMES[0])
            return
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=8)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            for frame in FRAMES[0]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode())

    return make


def _animation(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        first, *rest = map(Image.fromarray, FRAMES[0])
        first.save(folder / name, save_all=True, append_images=rest, duration=125, loop=0)

    return make


def _pictures(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "clip").mkdir()
        for number, frame in enumerate(FRAMES[0, :2]):
            Image.fromarray(frame).save(folder / "clip" / f"{number}{suffix}")

    return make


def _strip(folder: Path) -> None:
    Image.fromarray(FRAMES[0].swapaxes(0, 1).reshape(16, 64, 3)).save(folder / "strip.png")


def _npz(method: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        content = io.BytesIO()
        np.save(content, FRAMES)
        with zipfile.ZipFile(folder / "clips.npz", "w", method) as file:
            file.writestr("clips.npy", content.getvalue())

    return make


def _archive(folder: Path) -> None:
    writer = ArchiveWriter(folder, (4, 16, 16))
    writer.append([Clip(clip, f"clip {n}", label=n, caption=f"clip {n}") for n, clip in enumerate(FRAMES)])


def _read_clips(folder: Path) -> None:
    each(open_clips(folder))


def _read_archive(folder: Path) -> None:
    each(open_clips(folder))
    Archive(folder).verify()


# --- data sets


def _read_videos(videos: VideoSet) -> None:
    for index in range(len(videos)):
        videos.info(index)
        try:
            videos.read(index, range(min(videos.length(index), 2)))
        except BrokenClipError:
            continue


def _with_videos(*names: str, and_then: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / "a.npy", FRAMES[0])
            write_clip((folder / name).with_suffix(".gif"), FRAMES[0])
            (folder / name).with_suffix(".gif").rename(folder / name)
        (folder / "a.npy").unlink()
        and_then(folder)

    return make


_CAPTIONS_CSV = 'file,caption,label\na.gif,a red ball,3\nb.gif,"a blue, square ball",1\n'
_CAPTIONS_JSONL = "".join(
    json.dumps({"file": f"{name}.gif", "caption": f"ball {name}", "label": 1.0}) + "\n" for name in "ab"
)
_KINETICS = "label,youtube_id,time_start,time_end,split\njuggling,abc,1,11,test\njuggling,def,2.0,12.0,test\n"


def _ucf101(folder: Path) -> None:
    lists = {"classInd": "1 A\r\n2 B\r\n", "trainlist01": "A/v_A.avi 1\r\n", "testlist01": "B/v_B.avi\r\n"}
    for name, text in lists.items():
        write(f"ucfTrainTestlist/{name}.txt", text)(folder)


def _read_ucf101(folder: Path) -> None:
    _read_videos(open_ucf101(folder, "train+test"))


def _bair(folder: Path) -> None:
    picture = np.zeros((30, 64, 64, 3), np.uint8)
    path = folder / "softmotion30_44k" / "test" / "traj_0_to_0.tfrecords"
    tfrecord_files.write_records(path, [tfrecord_files.trajectory(picture, picture)])


def _read_bair(folder: Path) -> None:
    videos = Bair(folder, "test")
    _read_videos(videos)
    for index in range(len(videos)):
        videos.actions(index)
        videos.positions(index)


def _records(folder: Path) -> None:
    example = tfrecord_files.encoded({"a": [b"bytes"], "b": [1.0, 2.0], "c": [1, -1], "d": []})
    tfrecord_files.write_records(folder / "a.tfrecords", [example, example])


def _read_records(folder: Path) -> None:
    for place in find_records(folder / "a.tfrecords"):
        parse_example(read_tfrecord(folder / "a.tfrecords", place, "record"), "record")


_PROTOCOL = folder_protocol(3, frames=4, resolution=16)


def _prepared(folder: Path) -> None:
    (folder / "data" / "test").mkdir(parents=True)
    for number, frames in enumerate(FRAMES):
        np.save(folder / "data" / "test" / f"{number}.npy", frames)
    _prepare(folder)


def _prepare(folder: Path) -> None:
    for made in prepare(
        _PROTOCOL, folder / "data", folder / "out", workers=1, skip_broken=True, reporter=Silent()
    ):
        assert made.folder.is_dir()


def _read_prepared(folder: Path) -> None:
    try:
        each(open_dataset(_PROTOCOL, _PROTOCOL.reference, folder / "out"))
    except MachineError:
        raise
    except VdmBenchError:
        pass  # `prepare` is tried all the same
    _prepare(folder)


CLIPS: dict[str, Reader] = {
    "video mp4": Reader(_video("a.mp4"), _read_clips),
    "video webm": Reader(_video("a.webm"), _read_clips),
    "video gif": Reader(_video("a.gif"), _read_clips),
    "video mkv": Reader(_video("a.mkv", "libx264"), _read_clips),
    "video avi": Reader(_video("a.avi", "mpeg4"), _read_clips),
    "video ts": Reader(_video("a.ts", "mpeg2video"), _read_clips),
    "animated png": Reader(_animation("a.png"), _read_clips),
    "animated webp": Reader(_animation("a.webp"), _read_clips),
    "frames png": Reader(_pictures(".png"), _read_clips),
    "frames jpg": Reader(_pictures(".jpg"), _read_clips),
    "strip png": Reader(_strip, lambda folder: each(open_clips(folder, strips=True))),
    "npy": Reader(lambda folder: np.save(folder / "clips.npy", FRAMES), _read_clips),
    "npz stored": Reader(_npz(zipfile.ZIP_STORED), _read_clips),
    "npz deflated": Reader(_npz(zipfile.ZIP_DEFLATED), _read_clips),
    "clip archive": Reader(_archive, _read_archive),
    "prepared clips": Reader(_prepared, _read_prepared, "*/*.json"),
    "captions csv": Reader(
        _with_videos("a.gif", "b.gif", and_then=write("captions.csv", _CAPTIONS_CSV)),
        lambda folder: _read_videos(open_captioned(folder)),
        "captions.csv",
    ),
    "captions jsonl": Reader(
        _with_videos("a.gif", "b.gif", and_then=write("captions.jsonl", _CAPTIONS_JSONL)),
        lambda folder: _read_videos(open_captioned(folder)),
        "captions.jsonl",
    ),
    "kinetics csv": Reader(
        _with_videos("test/abc_000001_000011.mp4", and_then=write("annotations/test.csv", _KINETICS)),
        lambda folder: _read_videos(open_kinetics600(folder, "test")),
        "*.csv",
    ),
    "ucf101 lists": Reader(
        _with_videos("UCF-101/A/v_A.avi", "UCF-101/B/v_B.avi", and_then=_ucf101), _read_ucf101, "*.txt"
    ),
    "bair": Reader(_bair, _read_bair),
    "tfrecord": Reader(_records, _read_records),
}

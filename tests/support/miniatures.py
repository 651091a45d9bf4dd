"""Small data sets in the true formats of the benchmarks, from clips of `shapes`."""

from pathlib import Path

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.video.write import write_clip


def clips(count: int, frames: int, resolution: int = 64) -> Shapes:
    """The clips that a miniature is made of: as many as asked for, of `shapes`."""
    assert count <= 100
    return Shapes("test", seed=9, resolution=resolution, frames=frames)


def write_bair(root: Path, count: int = 3) -> Path:
    """`softmotion30_44k/test`, with `count` trajectories in two files."""
    # Not needed by other miniatures, and heavy.
    from tfrecord_files import trajectory, write_records

    above, beside = clips(count, 30), Shapes("train", seed=9, resolution=64, frames=30)
    records = [trajectory(above[i].frames, beside[i].frames, number=i) for i in range(count)]
    folder = root / "softmotion30_44k" / "test"
    write_records(folder / "traj_0_to_1.tfrecords", records[:2])
    write_records(folder / f"traj_2_to_{count - 1}.tfrecords", records[2:])
    return root


def write_ucf101(root: Path, count: int = 4, frames: int = 24) -> Path:
    """Class folders of avi files, and list 1; half of the videos are for training."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_bytes(b"1 Alpha\r\n2 HandStandPushups\r\n")
    folders = ("Alpha", "HandstandPushups")
    names = [f"{folders[i % 2]}/v_{('Alpha', 'HandStandPushups')[i % 2]}_g{i:02}_c01.avi" for i in range(count)]
    half = count // 2
    train = [f"{name} {i % 2 + 1}\r\n" for i, name in enumerate(names[:half])]
    (lists / "trainlist01.txt").write_bytes("".join(train).encode())
    (lists / "testlist01.txt").write_bytes("\r\n".join(names[half:]).encode())
    for i, name in enumerate(names):
        write_video(root / "UCF-101" / name, i, frames)
    return root


def write_kinetics600(root: Path, count: int = 4, frames: int = 24, missing: int = 0) -> Path:
    """A tree of mp4 files, and annotations that name `missing` more."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    for i in range(count + missing):
        rows.append(f"class {i % 2},id-{i},{i},{i + 10},test")
        if i < count:
            write_video(root / "test" / f"class {i % 2}" / f"id-{i}_{i:06}_{i + 10:06}.mp4", i, frames)
    (root / "annotations").mkdir()
    (root / "annotations/test.csv").write_text("\n".join(rows))
    return root


def write_captioned(root: Path, count: int = 4, frames: int = 24) -> Path:
    """Videos, and a list with their captions."""
    lines = ["file,caption"]
    for i in range(count):
        write_video(root / "test" / f"video{i}.mp4", i, frames)
        lines.append(f"video{i}.mp4,{clips(count, frames).info(i).caption!r}".replace("'", '"'))
    (root / "test/captions.csv").write_text("\n".join(lines))
    return root


def write_video(path: Path, index: int, frames: int) -> None:
    """Write clip `index` as a video, whatever the suffix: what is in a file is told by its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video = path.with_suffix(".mp4")
    write_clip(video, clips(100, frames)[index].frames)
    video.rename(path)

"""A camera that speaks RTSP, played by a thread here: the address is all that the reader is told."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.footage import Footage
from fusion.inference import Fuser
from fusion.video import VideoOptions, fuse_videos
from pipeline.errors import InputError

av = pytest.importorskip("av", reason="needs the extra video")

FRAMES = 12
SIZE = (64, 192)  # height and width of two pictures side by side
DESCRIPTION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
)


class Interleaved(io.RawIOBase):
    """Takes RTP and RTCP packets and sends them down the connection of the control messages (RFC 2326, 10.12)."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def writable(self) -> bool:
        return True

    def write(self, packet: bytes) -> int:  # type: ignore[override]
        control = 200 <= packet[1] <= 204
        self.connection.sendall(b"$" + bytes([control]) + len(packet).to_bytes(2, "big") + bytes(packet))
        return len(packet)


def frame(index: int) -> NDArray[np.uint8]:
    """The left half brightens by 8 a frame, the right half is even grey."""
    both = np.full((*SIZE, 3), 120, dtype=np.uint8)
    both[:, : SIZE[1] // 2] = 60 + 8 * index
    return both


def play(connection: socket.socket) -> None:
    """All frames as RTP."""
    container = av.open(
        Interleaved(connection), "w", format="rtp", options={"packetsize": "1200", "payload_type": "96"}
    )
    video = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "5", "crf": "12"})
    video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
    for index in range(FRAMES):
        container.mux(video.encode(av.VideoFrame.from_ndarray(frame(index), format="rgb24")))
    container.mux(video.encode(None))
    container.close()


def converse(listener: socket.socket, asked: list[str]) -> None:
    """Answer one player until it has been shown everything."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        while asked[-1:] != ["PLAY"]:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                line = lines.readline()
                if not line:
                    return
                request += line
            text = request.decode()
            asked.append(text.split()[0])
            number = re.search(r"CSeq: *(\d+)", text, re.IGNORECASE)[1]  # type: ignore[index]
            more, body = {
                "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""),
                "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Length: {len(DESCRIPTION)}\r\n", DESCRIPTION),
                "SETUP": ("Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", ""),
                "PLAY": ("Session: 1\r\n", ""),
            }[asked[-1]]
            connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n{body}".encode())
        play(connection)


@pytest.fixture
def camera() -> Iterator[tuple[str, list[str]]]:
    """The camera's address and what it has been asked so far."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=converse, args=(listener, asked), daemon=True)
        thread.start()
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live", asked
        thread.join(timeout=10)


def test_a_camera_is_read_by_its_address(camera: tuple[str, list[str]]) -> None:
    address, asked = camera
    footage = Footage(address)
    shown = [moment.pixels for moment in footage.frames()]
    footage.close()
    assert asked[-3:] == ["DESCRIBE", "SETUP", "PLAY"]
    assert len(shown) == FRAMES and shown[0].shape == (*SIZE, 3)
    for index, pixels in enumerate(shown):
        assert abs(float(pixels[8:56, 8:88].mean()) - (60 + 8 * index)) < 3


def test_a_cameras_two_pictures_are_fused(camera: tuple[str, list[str]], tmp_path: Path) -> None:
    fuser = Fuser.from_pretrained("nano", device="cpu")
    options = VideoOptions(side_by_side="visible-infrared")
    report = fuse_videos(fuser, camera[0], None, tmp_path / "fused.mp4", options)
    assert report.frames == FRAMES
    written = Footage(str(tmp_path / "fused.mp4"))
    assert [moment.pixels.shape for moment in written.frames()] == [(SIZE[0], SIZE[1] // 2, 3)] * FRAMES
    written.close()


def test_a_camera_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"rtsp://127.0.0.1:{port}/live: not a video that can be opened"):
        Footage(f"rtsp://127.0.0.1:{port}/live")

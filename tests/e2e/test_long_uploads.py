"""An upload that takes longer than its idempotency key lives without a word keeps the key."""

import socket
import threading
import time

from schemas.idempotency import RENEW_SECS
from tests.support.system import System

STALE_SECS = 3 * RENEW_SECS / 60
"""Of tests/support/gateway_with_short_claims.py."""
KEY = {"Idempotency-Key": "k1"}
HEAD = b'--xyz\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
END = b"\r\n--xyz--\r\n"


def test_a_key_is_kept_while_its_upload_runs(system: System) -> None:
    gateway = system.gateway(module="tests.support.gateway_with_short_claims")
    pieces = int(4 * STALE_SECS / 0.1)
    length = len(HEAD) + pieces + len(END)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        head = f"POST /jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k1\r\nContent-Length: {length}\r\n"
        client.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n" + HEAD)
        over = threading.Event()

        def trickle() -> None:
            for _ in range(pieces):
                client.sendall(b"x")
                time.sleep(0.1)
            over.set()
            client.sendall(END)

        sender = threading.Thread(target=trickle)
        sender.start()
        time.sleep(STALE_SECS)
        asked = 0
        while not over.is_set():
            answer = gateway.http.post("/jobs", files={"audio": ("a", b"x" * pieces)}, headers=KEY)
            if not over.is_set():
                assert (answer.status_code, answer.json().get("code")) == (409, "upload_running")
                asked += 1
            time.sleep(0.1)
        sender.join()
        assert b" 202 " in client.recv(65536).split(b"\r\n")[0]
    assert asked > 5
    [job] = gateway.http.get("/jobs").json()["jobs"]
    again = gateway.http.post("/jobs", files={"audio": ("a", b"x" * pieces)}, headers=KEY)
    assert (again.status_code, again.json()) == (200, {"job_id": job["id"]})

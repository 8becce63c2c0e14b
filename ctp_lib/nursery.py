"""Kernels that start at once: ``python -m ctp_lib.nursery dvc repro`` runs a command, and the kernels of its notebooks start as forks
of one process that has imported the large libraries already.

The command finds a kernel called ``python3`` by JUPYTER_PATH. That kernel's process is a client: it sends its arguments, environment
and standard streams to the nursery, waits, passes interrupts on, and ends when the fork does; when it is killed, so is the fork.

A notebook runs as in a kernel of its own: nothing of this project is imported beforehand, nor matplotlib, which looks for its kernel
when it is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PRELOADED = ("torch", "transformers", "peft", "scipy.stats", "ipykernel.kernelapp")
FROM_TRANSFORMERS = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "PreTrainedModel", "PreTrainedTokenizerBase")
"""Names that transformers imports only when they are asked for."""


def main() -> int:
    """Run the command of the arguments beside a nursery; its exit status. Elsewhere than on Linux, where forking is safe, without one."""
    if sys.platform != "linux":
        return subprocess.call(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder:
        address = f"{folder}/socket"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen(8)
        nursery = os.fork()
        if nursery == 0:
            with contextlib.suppress(KeyboardInterrupt):
                _serve(listening)
            os._exit(0)
        listening.close()
        _kernel_spec(Path(folder), address)
        try:
            return subprocess.call(sys.argv[1:], env={**os.environ, "JUPYTER_PATH": _first(folder, os.environ.get("JUPYTER_PATH"))})
        except KeyboardInterrupt:
            return 130
        finally:
            os.kill(nursery, signal.SIGKILL)
            os.waitpid(nursery, 0)


def _first(folder: str, others: str | None) -> str:
    return os.pathsep.join([folder, *filter(None, [others])])


def _kernel_spec(folder: Path, address: str) -> None:
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-I", "-S", __file__, address, "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), encoding="utf-8")


def _serve(listening: socket.socket) -> None:
    """Import, then fork for every client, for ever."""
    for name in PRELOADED:
        importlib.import_module(name)
    for name in FROM_TRANSFORMERS:
        getattr(sys.modules["transformers"], name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever watches over a kernel is not waited for
    while True:
        client, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(client)
        client.close()


def _watch(client: socket.socket) -> None:
    """Fork the kernel; tell the client how it ended, or end it when the client is gone."""
    message, streams, _, _ = socket.recv_fds(client, 1 << 20, 3)
    kernel = os.fork()
    if kernel == 0:
        client.close()
        _become(json.loads(message), streams)
    client.settimeout(0.1)
    while True:
        ended, status = os.waitpid(kernel, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                client.send(bytes([os.waitstatus_to_exitcode(status) & 255]))
            os._exit(0)
        try:
            os.kill(kernel, signal.SIGINT if client.recv(1) else signal.SIGKILL)
        except TimeoutError:
            pass
        except OSError:
            os.kill(kernel, signal.SIGKILL)


def _become(asked: dict, streams: list[int]) -> None:
    """Turn this process into the kernel that a client asks for."""
    watching = os.getppid()
    os.setsid()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.argv = ["ipykernel_launcher", f"--IPKernelApp.parent_handle={watching}", *asked["arguments"]]
    if "pandas" in sys.modules:  # something imports it; it has looked for its kernel and found a terminal
        sys.modules["pandas"].set_option("display.max_columns", 20)
    status = 0
    try:
        sys.modules["ipykernel.kernelapp"].launch_new_instance()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _client(address: str, arguments: list[str]) -> int:
    """Ask the nursery for a kernel and stay until it has ended."""
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as nursery:
        nursery.connect(address)
        signal.signal(signal.SIGINT, lambda *_: nursery.send(b"i"))
        socket.send_fds(nursery, [json.dumps(asked).encode()], [0, 1, 2])
        answer = nursery.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    sys.exit(_client(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 and sys.argv[1].endswith("/socket") else main())

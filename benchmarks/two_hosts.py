"""Training over two hosts, on one machine: two network namespaces that a virtual cable connects.

sudo python benchmarks/two_hosts.py

Each namespace stands for a host, with an address of its own and no other way to the other one. `torchrun` starts one
process in each. They compute the gradients of `tests/agents/two_ranks.py` (DDP and FSDP2), which compares them with
those of one process and fails where they differ. Needs root and the program `ip` (Debian: iproute2).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOSTS = ("llm-envs-a", "llm-envs-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = 29_517


def main() -> None:
    """Connect, run, and take everything down again."""
    if os.geteuid() != 0:
        raise SystemExit("making network namespaces needs root")
    connect()
    try:
        started = time.perf_counter()
        processes = [start(rank) for rank in range(2)]
        outputs = [process.communicate(timeout=600) for process in processes]
        for process, (out, err) in zip(processes, outputs, strict=True):
            if process.returncode != 0 or "equal" not in out:
                raise SystemExit(f"a host failed:\n{out}\n{err[-4000:]}")
        received = [received_bytes(rank) for rank in range(2)]
        print(f"equal on both hosts, {time.perf_counter() - started:.0f} s, received bytes {received}")
        if min(received) < 100_000:
            raise SystemExit("hardly anything went over the cable: the processes did not train together")
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host], check=False)


def connect() -> None:
    """Two namespaces with a pair of virtual devices between them."""
    for host in HOSTS:
        ip("netns", "add", host)
    ip("link", "add", "veth-a", "netns", HOSTS[0], "type", "veth", "peer", "name", "veth-b", "netns", HOSTS[1])
    for host, device, address in zip(HOSTS, ("veth-a", "veth-b"), ADDRESSES, strict=True):
        ip("-n", host, "address", "add", f"{address}/24", "dev", device)
        ip("-n", host, "link", "set", device, "up")
        ip("-n", host, "link", "set", "lo", "up")


def start(rank: int) -> subprocess.Popen[str]:
    """The launcher of one host."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank)]
    launcher += ["--nproc-per-node", "1", "--master-addr", ADDRESSES[0], "--master-port", str(PORT)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GLOO_SOCKET_IFNAME": ("veth-a", "veth-b")[rank],
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        ["ip", "netns", "exec", HOSTS[rank], *launcher, str(ROOT / "tests" / "agents" / "two_ranks.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def received_bytes(rank: int) -> int:
    """What has come over the cable."""
    file = f"/sys/class/net/{('veth-a', 'veth-b')[rank]}/statistics/rx_bytes"
    command = ["ip", "netns", "exec", HOSTS[rank], "cat", file]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ip(*arguments: str) -> None:
    """Run the program `ip`."""
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    main()

"""Processor time and peak memory of a command with all processes that it starts."""

import subprocess
import sys

# The peak memory of a child begins at the memory of the process that forked it, so a small process starts the command.
# VmHWM is the kernel's own record of a peak, so polling misses at most what is allocated just before the end.
_STARTER = """
import glob, os, subprocess, sys, time

def peaks(pid, found):
    try:
        status = open(f"/proc/{pid}/status").read()
        found[pid] = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        children = " ".join(open(path).read() for path in glob.glob(f"/proc/{pid}/task/*/children"))
    except (OSError, IndexError, ValueError):
        return
    for child in children.split():
        peaks(int(child), found)

process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
found, ended = {}, 0
while sys.argv[1] == "memory" and not ended:
    peaks(process.pid, found)
    time.sleep(0.01)
    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
if not ended:
    _, status, usage = os.wait4(process.pid, 0)
peak = max(sum(found.values()), usage.ru_maxrss / 1024)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, peak)
"""


def child(command: list[str], watch: str = "time") -> tuple[float, float]:
    """Processor seconds and, with ``watch`` "memory", peak MB of a command and all processes that it starts.

    The peak is the sum of the peaks of its processes, each at its own time: an upper bound of what they held at once.
    Ends the benchmark where the command fails.
    """
    told = subprocess.check_output([sys.executable, "-c", _STARTER, watch, *command], text=True)
    code, seconds, peak = map(float, told.split())
    if code:
        raise SystemExit(f"{command} ended with {code:.0f}")
    return seconds, peak

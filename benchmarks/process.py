"""What a command costs: processor time and peak memory of the process and all that it starts."""

import subprocess
import sys

# A process that is started counts the memory of the one that starts it as its own peak, so a small one starts it. A
# peak is read from the kernel's own mark, so that looking now and then misses none but that of a last instant.
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
    """Processor seconds and, with ``watch`` "memory", peak MB of a process and all it starts; it must succeed.

    The peak is the sum of the peaks of all its processes, each at its own time: never less than what they held at once.
    """
    told = subprocess.check_output([sys.executable, "-c", _STARTER, watch, *command], text=True)
    code, seconds, peak = map(float, told.split())
    if code:
        raise SystemExit(f"{command} ended with {code:.0f}")
    return seconds, peak

"""CPU time and peak memory of processes and their children, from /proc."""

import os
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """CPU since now, and peak memory, of some processes; what ends keeps what it had when last sampled."""

    def __init__(self, pids: set[int]) -> None:
        self._began_s = {pid: cpu_s(pid) for pid in pids}
        self._now_s = dict(self._began_s)
        self._peaks_mb = dict.fromkeys(pids, 0.0)

    def sample(self) -> None:
        for pid in self._began_s:
            self._now_s[pid] = max(self._now_s[pid], cpu_s(pid))
            self._peaks_mb[pid] = max(self._peaks_mb[pid], peak_mb(pid))

    @property
    def cpu_s(self) -> float:
        return sum(self._now_s.values()) - sum(self._began_s.values())

    @property
    def peak_mb(self) -> float:
        return sum(self._peaks_mb.values())


def tree(pids: list[int]) -> set[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(_fields(stat)[1]), []).append(int(stat.parent.name))
    found, new = set(pids), list(pids)
    while new:
        new = [child for pid in new for child in children.get(pid, ()) if child not in found]
        found.update(new)
    return found


def cpu_s(pid: int) -> float:
    """Seconds of CPU, user and system, that this process used so far; 0 once it has ended and was reaped."""
    with suppress(OSError):
        fields = _fields(Path(f"/proc/{pid}/stat"))
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return 0.0


def peak_mb(pid: int) -> float:
    """Peak resident memory in megabytes, 0 when the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _fields(stat: Path) -> list[str]:
    """After the command's name, which may hold spaces: state, ppid, ..."""
    return stat.read_text().rpartition(")")[2].split()

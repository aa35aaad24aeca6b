"""Opens loadgen's interval logs with HdrHistogram's Python port, and compares them with loadgen's JSON.

Usage: hlog_opens_elsewhere.py LOADGEN ECHO_SERVER    (two commands; needs `pip install hdrhistogram`)
"""

import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

LOADS = {
    "closed loop": (["--connections", "4"], {"latency", "service"}),
    "open loop": (["--connections", "4", "--rate", "2000"], {"latency", "service", "send_lag"}),
}
DURATION_S = 2
TIMEOUT_S = 60
# Percentiles in the JSON, each with the number of samples to one beyond it.
PERCENTILES = {"p50": 2, "p90": 10, "p95": 20, "p99": 100, "p99_9": 1000, "p99_99": 10_000}
# Three significant digits.
TOLERANCE = 1e-3


class Mismatch(Exception):
    """A log and the JSON differ."""


def main(loadgen, server_command):
    server = subprocess.Popen(
        [*shlex.split(server_command), "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = server.stdout.readline().removeprefix("listening on ").strip()
        if not address:
            raise Mismatch(f"{server_command} printed no address")
        with tempfile.TemporaryDirectory() as folder:
            logs = [check_run(loadgen, address, name, Path(folder)) for name in LOADS]
            samples = check_merge(loadgen, logs, Path(folder))
    finally:
        server.terminate()
        server.wait(TIMEOUT_S)
    print(f"{len(logs)} interval logs and their sum opened with HdrHistogram's Python port: {samples} samples, as in the JSON")


def check_run(loadgen, address, name, folder):
    """Does a run, compares its log with its JSON, and returns the log's path."""
    load, tags = LOADS[name]
    json_file, hgrm, hlog = (folder / f"{name}.{kind}" for kind in ("json", "hgrm", "hlog"))
    began_s = time.time()
    run(loadgen, "--connect", address, *load, "--warmup", "200ms", "--duration", f"{DURATION_S}s",
        "--json", json_file, "--hgrm", hgrm, "--hlog", hlog)
    ended_s = time.time()
    intervals = read(hlog)
    require_equal(f"{name}: tags", set(intervals), tags)
    report = json.loads(json_file.read_text())
    for tag in tags:
        what = f"{name}, {tag}"
        starts_s = [interval.get_start_time_stamp() / 1000 for interval in intervals[tag]]
        if len(starts_s) < DURATION_S or starts_s != sorted(starts_s):
            raise Mismatch(f"{what}: intervals start at {starts_s}, expected one per second")
        if not began_s - 0.001 <= starts_s[0] <= starts_s[-1] <= ended_s:
            raise Mismatch(f"{what}: intervals start at {starts_s}, but the run lasted from {began_s} to {ended_s}")
        check_numbers(what, total(intervals[tag]), report.get(f"{tag}_ns"))
    check_hgrm(name, hgrm, report["latency_ns"]["count"])
    return hlog


def check_merge(loadgen, logs, folder):
    """Adds up the logs, here and with loadgen, compares the sums, and returns their number of samples."""
    hlog, json_file = folder / "merged.hlog", folder / "merged.json"
    run(loadgen, "merge", *logs, "--hlog", hlog, "--json", json_file)
    apart = [read(log) for log in logs]
    merged = read(hlog)
    report = json.loads(json_file.read_text())
    require_equal("merged: tags", set(merged), set().union(*apart))
    require_equal("merged: tags of the JSON", set(report["tags"]), set(merged))
    for tag in merged:
        expected = total([interval for intervals in apart for interval in intervals.get(tag, [])])
        added = total(merged[tag])
        require_equal(f"merged, {tag}: counts by value", counts(added), counts(expected))
        check_numbers(f"merged, {tag}", added, report["tags"][tag])
    return sum(total(intervals).get_total_count() for intervals in merged.values())


def check_numbers(what, histogram, report):
    if report is None:
        raise Mismatch(f"{what}: missing in the JSON")
    require_equal(f"{what}: count", histogram.get_total_count(), report["count"])
    require_close(f"{what}: max", histogram.get_max_value(), report["max"])
    for percentile, one_in in PERCENTILES.items():
        if report[percentile] is not None:
            require_close(f"{what}: {percentile}", nearest_rank(histogram, one_in), report[percentile])


def check_hgrm(name, path, samples):
    """The last row of a percentile distribution counts all samples."""
    rows = [line.split() for line in path.read_text().splitlines()[1:] if line and not line.startswith("#")]
    require_equal(f"{name}: samples in the .hgrm", int(rows[-1][2]), samples)


def run(*command):
    command = [*shlex.split(command[0]), *map(str, command[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Mismatch(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def read(path):
    """The histograms of a log's intervals, by tag."""
    reader = HistogramLogReader(str(path), new_histogram())
    intervals = {}
    try:
        while (interval := reader.get_next_interval_histogram()) is not None:
            intervals.setdefault(interval.get_tag(), []).append(interval)
    except Exception as error:  # The port raises exceptions of any kind.
        raise Mismatch(f"{path.name} does not open: {error!r}") from error
    finally:
        reader.close()
    lines = sum(line.startswith("Tag=") for line in path.read_text().splitlines())
    require_equal(f"{path.name}: intervals read", sum(map(len, intervals.values())), lines)
    return intervals


def total(intervals):
    histogram = new_histogram()
    for interval in intervals:
        histogram.add(interval)
    return histogram


def new_histogram():
    """A histogram with loadgen's bounds: 1 ns to 1 hour, 3 significant digits."""
    return HdrHistogram(1, 3600 * 10**9, 3)


def counts(histogram):
    return {item.value_iterated_to: item.count_added_in_this_iter_step for item in histogram.get_recorded_iterator()}


def nearest_rank(histogram, one_in):
    """The lowest value with at most one in `one_in` samples beyond it. (The port's own percentiles round the rank.)"""
    rank = histogram.get_total_count() - histogram.get_total_count() // one_in
    for value, count in counts(histogram).items():
        rank -= count
        if rank <= 0:
            return value
    raise Mismatch("there are no samples")


def require_equal(what, found, expected):
    if found != expected:
        raise Mismatch(f"{what}: {found}, expected {expected}")


def require_close(what, found, expected):
    if not math.isclose(found, expected, rel_tol=TOLERANCE):
        raise Mismatch(f"{what}: {found}, expected {expected}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    try:
        main(*sys.argv[1:])
    except Mismatch as mismatch:
        sys.exit(f"hlog_opens_elsewhere: {mismatch}")

"""Runs for reports: a real one, and variants of it with failed and missing trials."""

import csv
import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

# Each part would become an element, end a script or an attribute, or cause an error in the console if it were read as HTML.
MARKUP = "</script></title><img src=x onerror=alert(1)> \"quoted\" 'single' &lt; --> ]]>"
# Without a slash, as names become names of files.
MARKUP_NAME = "<img src=x onerror=alert(2)>\"'&lt;"

# The changes of `marred`, in experiments that every run has.
RENAMED_SERVER = "thread-per-conn"
FAILING_SERVER = "poll"
MISSING_POINT = ("scaling", 1000)
MISSING_CELL = ("churn", 64, "epoll")
SOMETIMES_FAILING_CELL = ("scaling", 100, "epoll")
ONE_ROUND = "payload"


@dataclass
class Report:
    """A run's folder with its report."""

    folder: Path

    @staticmethod
    def make(run, folder, change, compare):
        """Copies the files that a report is built from, lets `change` edit their contents, and builds the rest."""
        folder.mkdir()
        description = json.loads((run / "run.json").read_text())
        trials = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
        description, trials = change(description, trials)
        (folder / "run.json").write_text(json.dumps(description))
        (folder / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
        (folder / "histograms").mkdir()
        if (run / "trace.json").exists():
            servers = [server["name"] for server in description["plan"]["servers"]]
            traces = json.loads((run / "trace.json").read_text())
            (folder / "trace.json").write_text(json.dumps([trace for trace in traces if trace["name"] in servers]))
        subprocess.run([*compare, "report", folder], check=True, stdout=subprocess.DEVNULL)
        return Report(folder)

    @property
    def page(self):
        return self.folder / "report.html"

    @cached_property
    def run(self):
        return json.loads((self.folder / "run.json").read_text())

    @property
    def experiments(self):
        return self.run["plan"]["experiments"]

    @property
    def servers(self):
        return [server["name"] for server in self.run["plan"]["servers"]]

    @cached_property
    def summary(self):
        """The rows of summary.csv, by experiment, variant, point and server."""
        with open(self.folder / "summary.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        return {(row["experiment"], row["variant"], float(row["point"]), row["server"]): row for row in rows}


def unchanged(run, trials):
    return run, trials


def crowded(run, trials):
    """A dozen external servers took part in one experiment."""
    names = [f"own-{index}" for index in range(12)]
    run["plan"] = run["plan"] | {"servers": run["plan"]["servers"] + [external(name) for name in names]}
    copied = [trial for trial in trials if (trial["experiment"], trial["server"]) == ("churn", "epoll")]
    return run, trials + [trial | {"server": name} for trial in copied for name in names]


def external(name):
    return {"name": name, "own": {"name": name, "command": ["own", "{port}"], "wire": "frames", "cwd": None}}


def marred(run, trials):
    """Some trials failed, some are missing, a server failed everywhere, and names and reasons hold markup."""
    run = run | {"complete": False, "machine": run["machine"] | {"cpu_model": MARKUP}}
    servers = [external(MARKUP_NAME) if server["name"] == RENAMED_SERVER else server for server in run["plan"]["servers"]]
    run["plan"] = run["plan"] | {"servers": servers}
    return run, [marred_trial(trial) for trial in trials if not is_missing(trial)]


def marred_trial(trial):
    place = (trial["experiment"], trial["point"], trial["server"])
    if trial["server"] == FAILING_SERVER or place == SOMETIMES_FAILING_CELL and trial["round"] < 3:
        return failed(trial)
    return trial | {"server": MARKUP_NAME} if trial["server"] == RENAMED_SERVER else trial


def is_missing(trial):
    place = (trial["experiment"], trial["point"])
    is_late = trial["experiment"] == ONE_ROUND and trial["round"] > 1
    return place == MISSING_POINT or (*place, trial["server"]) == MISSING_CELL or is_late


def all_failed(run, trials):
    return run, [failed(trial) for trial in trials]


def failed(trial):
    return trial | {"failure": MARKUP, "measured": None}

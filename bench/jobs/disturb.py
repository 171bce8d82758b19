#!/usr/bin/env python3
"""Kills, requeues and time-outs at random moments of a submitted sweep: are the collected bits those of an undisturbed run?

    python3 bench/jobs/disturb.py --lowbit target/release/lowbit --on slurm --disturbances 100 --seed 1 --work /tmp/disturb

A reference sweep runs in the foreground, undisturbed. Then the same sweep is submitted and disturbed until the number is
reached (a sweep that ends before that is followed by another into a new folder). Every model file, every accuracy and every
loss of every epoch must be equal. With --on slurm a throw-away Slurm of one node is started (tests/slurm, needs root).
Exit code 1 if anything differs.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SLURM = HERE.parent.parent / "tests" / "slurm"
# One width of each kind: floats, bytes, packed, one bit. An epoch takes about a quarter of a second of one core.
SWEEP = ["sweep", "--model", "eurosat-cnn", "--limit", "80", "--image-size", "32", "--batch-size", "16",
         "--widths", "32,8,2,1", "--seeds", "2"]


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = pathlib.Path(options.work).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.lowbit = str(pathlib.Path(options.lowbit).resolve())
        self.random = random.Random(options.seed)
        self.done = collections.Counter()
        self.sweep = [*SWEEP, "--epochs", str(options.epochs)]
        self.environment = {**os.environ, "LOWBIT_QUEUE": str(self.work / "queue"),
                            "XDG_CACHE_HOME": str(self.work / "cache"), "XDG_CONFIG_HOME": str(self.work / "config")}

    def call(self, *arguments, check=True):
        done = subprocess.run([self.lowbit, *arguments], cwd=self.work, env=self.environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            sys.exit(f"lowbit {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def submit(self, out, limited):
        """Returns how many tasks were sent."""
        time_limit = ["--time", f"0:{self.options.time_limit:02}"] if limited else []
        done = self.call("submit", *self.sweep, "--out", out, "--on", self.options.on, "--cpus", "1", "--mem", "512M",
                         "--max-restarts", "10000", "--no-exclusive", *time_limit, "--json")
        return len(json.loads(done.stdout)["sent"])

    def job(self, out):
        return next((self.work / out / "jobs").iterdir())

    def running(self, out):
        """Wrapper, experiment and scheduler's name of every training that runs."""
        found = []
        for path in (self.job(out) / "tasks").glob("*/started.json"):
            if (path.parent / "outcome.json").exists():
                continue
            try:
                started = json.loads(path.read_text())
                line = pathlib.Path(f"/proc/{started['pid']}/cmdline").read_bytes()
                children = pathlib.Path(f"/proc/{started['pid']}/task/{started['pid']}/children").read_text().split()
                train = b"train" in pathlib.Path(f"/proc/{children[0]}/cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            if b"task" in line.split(b"\0") and str(self.work).encode() in line and train:
                found.append((started["pid"], int(children[0]), started["job"]))
        return found

    def disturb(self, out):
        tasks = self.running(out)
        if not tasks:
            return
        wrapper, experiment, name = self.random.choice(tasks)
        kinds = ["experiment killed", "experiment killed", "requeued", "requeued", "wrapper killed", "both killed"]
        if self.options.on == "local":
            kinds.append("queue and all its tasks killed")
        kind = self.random.choice(kinds)
        try:
            if kind == "experiment killed":
                os.kill(experiment, signal.SIGKILL)
            elif kind == "wrapper killed":
                os.kill(wrapper, signal.SIGKILL)
            elif kind == "both killed":
                os.kill(wrapper, signal.SIGKILL)
                os.kill(experiment, signal.SIGKILL)
            elif kind == "requeued" and self.options.on == "slurm":
                said = subprocess.run(["scontrol", "requeue", name], env=self.environment, capture_output=True)
                if said.returncode != 0:
                    return
            elif kind == "requeued":
                os.kill(wrapper, signal.SIGTERM)
            else:
                self.reboot(tasks)
        except ProcessLookupError:
            return
        self.done[kind] += 1

    def reboot(self, tasks):
        """What a restart of the machine leaves: nothing that runs."""
        log = (self.work / "queue" / "queue.log").read_text()
        queue = int(log.rsplit("queue ", 1)[1].split()[0])
        line = pathlib.Path(f"/proc/{queue}/cmdline").read_bytes()
        if line.split(b"\0")[:2] != [self.lowbit.encode(), b"queue"]:
            raise ProcessLookupError
        os.kill(queue, signal.SIGKILL)
        for wrapper, experiment, _ in tasks:
            for process in (wrapper, experiment):
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def time_outs(self, out):
        logs = (self.job(out) / "logs").glob("*.out")
        return sum(log.read_text(errors="replace").count("its time is up") for log in logs)

    def counted(self, earlier, out):
        return sum(self.done.values()) + earlier + self.time_outs(out)

    def one_sweep(self, out, earlier):
        """Submits, disturbs, collects. Returns the number of its time-outs."""
        self.submit(out, limited=True)
        submitted = time.monotonic()
        while self.counted(earlier, out) < self.options.disturbances:
            time.sleep(self.random.uniform(0.3, 2.5))
            self.disturb(out)
            if time.monotonic() - submitted > 12:
                submitted = time.monotonic()
                again = self.submit(out, limited=True)
                self.done_again += again > 0
                states = json.loads(self.call("jobs", "--out", out, "--json").stdout)[0]["tasks"]
                left = [task for task in states if task["stage"] == 0 and task["state"] != "done"]
                print(f"{out}: {self.counted(earlier, out)} disturbances, {len(left)} trainings left, "
                      f"{sum(task['attempts'] for task in states)} attempts", flush=True)
                if not left:
                    break
        for _ in range(20):
            self.done_again += self.submit(out, limited=False) > 0
            collected = self.call("collect", "--out", out, "--quiet", check=False)
            if collected.returncode == 0:
                return self.time_outs(out)
        sys.exit(f"{out} cannot be collected: {collected.stderr.strip()}")

    def runs(self, out):
        return {path.parent.relative_to(self.work / out): path.parent
                for path in (self.work / out).glob("*bit/run_*/training_results.json")}

    def differences(self, out):
        expected, found = self.runs("undisturbed"), self.runs(out)
        differing = [f"runs {set(expected) ^ set(found)}"] if set(expected) != set(found) else []
        for name in set(expected) & set(found):
            models = {path.name for folder in (expected[name], found[name]) for path in folder.glob("model_*")}
            for model in models:
                pair = [folder[name] / model for folder in (expected, found)]
                if not all(path.exists() for path in pair) or pair[0].read_bytes() != pair[1].read_bytes():
                    differing.append(f"{name}/{model}")
            pair = [json.loads((folder[name] / "training_results.json").read_text()) for folder in (expected, found)]
            differing += [f"{name}: {key}" for key in ("results_per_round", "final_test_accuracy", "final_test_loss",
                                                      "compression_metrics", "decisive") if pair[0][key] != pair[1][key]]
        return differing, sum(1 for name in found for _ in found[name].glob("model_*"))

    def run(self):
        self.done_again = 0
        began = time.monotonic()
        print(self.call("--version").stdout.strip(), " ".join(self.sweep), flush=True)
        if not self.runs("undisturbed"):
            self.call(*self.sweep, "--out", "undisturbed", "--quiet")
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        time_outs, sweeps, bad, models = 0, 0, [], 0
        while sum(self.done.values()) + time_outs < self.options.disturbances:
            out = f"disturbed{sweeps}"
            time_outs += self.one_sweep(out, time_outs)
            differing, count = self.differences(out)
            bad += differing
            models += count
            sweeps += 1
        self.done["time limit"] = time_outs
        for kind, count in sorted(self.done.items()):
            print(f"{count:4}  {kind}")
        print(f"{sum(self.done.values()):4}  disturbances in all, over {sweeps} submitted sweeps of "
              f"{len(self.runs('undisturbed'))} trainings on {self.options.on}; {self.done_again} submissions after the "
              f"first sent what had failed; seed {self.options.seed}; {time.monotonic() - began:.0f} s")
        print(f"{models} model files and all accuracies and losses compared: " +
              ("all equal" if not bad else "DIFFERENT: " + ", ".join(bad)))
        return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lowbit", required=True, help="the program")
    parser.add_argument("--on", choices=["slurm", "local"], default="local")
    parser.add_argument("--disturbances", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--time-limit", type=int, default=20, help="seconds of an attempt, below 60")
    parser.add_argument("--work", required=True, help="a folder for everything")
    bench = Bench(parser.parse_args())
    if bench.options.on == "local":
        return bench.run()
    folder = bench.work / "slurm"
    # Its servers keep every open file: none may be the pipe that is read here.
    with open(bench.work / "start.out", "w+") as said:
        subprocess.run([SLURM / "start.sh", folder], check=True, stdout=said)
        said.seek(0)
        bench.environment["SLURM_CONF"] = said.read().split()[-1]
    try:
        return bench.run()
    finally:
        subprocess.run([SLURM / "stop.sh", folder], check=False)


if __name__ == "__main__":
    sys.exit(main())

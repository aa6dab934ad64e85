"""Runs the services of compose.yaml as processes; run-local.sh says how, and finds the programs.

What is taken from compose.yaml: command, environment, mounts, dependencies and health checks of every service whose program is
here. Names of services become addresses of this machine, paths of mounts become paths below STATE. The S3 server is replaced
by an endpoint that is given, or by the one of this repository; what prepares it is left out, since that one makes its bucket.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ["STATE"]).resolve()
NETWORK = os.environ.get("NETWORK", "77")
S3 = "s3"
S3_PORT = 9000
# A service is up, or has ended well, within this; a node that recovers a log may take a while.
UP_SECONDS = 180
# More than stop_grace_period.
DOWN_SECONDS = 40


def fail(message):
    sys.exit(f"run-local: {message}")


class Services:
    """The services that run here, in the order in which they are started."""

    def __init__(self):
        self.file = yaml.safe_load((HERE / "compose.yaml").read_text())
        self.all = self.file["services"]
        self.programs = {}
        for name, service in self.all.items():
            program = self.find_program(service)
            if program and "profiles" not in service:
                self.programs[name] = program
        names = [S3, *self.all]
        self.addresses = {name: f"127.{NETWORK}.0.{number}" for number, name in enumerate(names, 1)}
        self.order = []
        for name in self.programs:
            self.visit(name)

    def find_program(self, service):
        image = interpolated(service["image"])
        if "tidelog" in image:
            return os.environ["TIDELOG"]
        for word in ["haproxy", "prometheus"]:
            if word in image:
                # Debian has haproxy where only root looks.
                return shutil.which(word, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        return None

    def visit(self, name):
        for needed in self.all[name].get("depends_on", {}):
            if needed in self.programs:
                self.visit(needed)
        if name not in self.order:
            self.order.append(name)

    def text(self, name, text, mounts):
        """A text of a service as it is right here: variables, paths and addresses replaced."""
        text = interpolated(text)
        if mounts:
            # In one pass, so that a path is not taken for another one that it was replaced by.
            paths = "|".join(map(re.escape, sorted(mounts, key=len, reverse=True)))
            text = re.sub(rf"(?<![\w./-])({paths})(?![\w.-])", lambda found: str(mounts[found[1]]), text)
        if os.environ.get("S3_ENDPOINT"):
            text = text.replace(f"http://{S3}:{S3_PORT}", os.environ["S3_ENDPOINT"])
        for other, address in self.addresses.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(other)}(?=:\d)", address, text)
        return re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)(?=:\d)", self.addresses[name], text)

    def mounts(self, name):
        """Where the paths of a service are here; files of settings are copied with their addresses replaced."""
        mounts, files = {}, []
        for volume in self.all[name].get("volumes", []):
            source, inside = volume.split(":")[:2]
            if not source.startswith("."):
                mounts[inside] = STATE / "volumes" / source
                mounts[inside].mkdir(parents=True, exist_ok=True)
            elif (HERE / source).is_dir():
                mounts[inside] = (HERE / source).resolve()
            else:
                mounts[inside] = STATE / "settings" / name / Path(source).name
                files.append((HERE / source, mounts[inside]))
        for source, copy in files:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(self.text(name, source.read_text(), mounts))
        return mounts

    def command(self, name):
        service, mounts = self.all[name], self.mounts(name)
        words = [self.text(name, word, mounts) for word in service["command"]]
        # An image's entry point is its program, unless the command names it.
        if words[0] == Path(self.programs[name]).name:
            words = words[1:]
        environment = {key: self.text(name, str(value), mounts) for key, value in service.get("environment", {}).items()}
        return [self.programs[name], *words], environment

    def health(self, name):
        check = self.all[name].get("healthcheck")
        if not check:
            return None
        kind, program, *words = check["test"]
        assert kind == "CMD", f"{name}: a health check of another kind than CMD"
        words = [self.text(name, word, {}) for word in words]
        if program == "wget":
            return ["curl", "--silent", "--fail", "--output", "/dev/null", words[-1]]
        return [os.environ["TIDELOG"] if program == "tidelog" else program, *words]


def interpolated(text):
    """`${NAME:-default}` as compose reads it."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: os.environ.get(found[1]) or found[2], text)


class Process:
    """A process that may have been started by an earlier call: its id is in a file, with the time of its start."""

    def __init__(self, name):
        self.name, self.log = name, STATE / "logs" / f"{name}.log"
        self.file = STATE / "run" / f"{name}.json"

    def start(self, command, environment):
        for path in [self.log, self.file]:
            path.parent.mkdir(parents=True, exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "TIDELOG"))}
        with open(self.log, "ab") as log:
            child = subprocess.Popen(
                command, env=inherited | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.file.write_text(json.dumps({"pid": child.pid, "started": started(child.pid)}))
        return child

    def pid(self):
        """The id, if it is running and still the same process."""
        try:
            known = json.loads(self.file.read_text())
        except FileNotFoundError:
            return None
        return known["pid"] if started(known["pid"]) == known["started"] else None

    def end(self, by=signal.SIGTERM):
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, by)
        deadline = time.monotonic() + DOWN_SECONDS
        while self.pid() is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                fail(f"{self.name} did not end within {DOWN_SECONDS} s: see {self.log}")
            reap()
            time.sleep(0.05)
        self.file.unlink()

    def last_words(self):
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-15:])


def started(pid):
    """When a process started, in ticks since the boot; none if it is gone or only waits to be asked how it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def is_job(services, name):
    """Whether others wait for its end instead of its health."""
    return any(
        service.get("depends_on", {}).get(name, {}).get("condition") == "service_completed_successfully"
        for service in services.all.values()
    )


def up_s3(services):
    process = Process(S3)
    if os.environ.get("S3_ENDPOINT") or process.pid():
        return
    environment = credentials(services)
    address = f"{services.addresses[S3]}:{S3_PORT}"
    command = [os.environ["S3_SERVER"], "--listen", address, "--dir", str(objects()), "--bucket", "tidelog"]
    child = process.start(
        [*command, "--policy", str(HERE / "policy.json")],
        {"ACCESS_KEY": environment["AWS_ACCESS_KEY_ID"], "SECRET_KEY": environment["AWS_SECRET_ACCESS_KEY"]},
    )
    # Any answer will do: nobody may list buckets.
    wait(S3, child, process, ["curl", "--silent", "--output", "/dev/null", f"http://{address}/"])


def up(services):
    up_s3(services)
    waited = set()
    for name in services.order:
        for needed in services.all[name].get("depends_on", {}):
            if needed in services.programs and needed not in waited:
                waited.add(needed)
                wait_for(services, needed)
        start(services, name)
    for name in services.order:
        if name not in waited:
            wait_for(services, name)


CHILDREN = {}


def start(services, name):
    process = Process(name)
    if process.pid() is None:
        CHILDREN[name] = process.start(*services.command(name))


def wait_for(services, name):
    process, child = Process(name), CHILDREN.get(name)
    if is_job(services, name):
        try:
            status = child.wait(UP_SECONDS) if child else 0
        except subprocess.TimeoutExpired:
            status = "no end"
        if status:
            fail(f"{name} failed ({status}):\n{process.last_words()}")
    elif check := services.health(name):
        wait(name, child, process, check)


def wait(name, child, process, check):
    deadline = time.monotonic() + UP_SECONDS
    while subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        if (child and child.poll() is not None) or process.pid() is None:
            fail(f"{name} ended:\n{process.last_words()}")
        if time.monotonic() > deadline:
            fail(f"{name} is not healthy after {UP_SECONDS} s:\n{process.last_words()}")
        time.sleep(0.1)


def down(services):
    for name in reversed(services.order):
        Process(name).end()
    # Last, so that the others can still write to it.
    Process(S3).end()


def objects():
    return STATE / "volumes" / "s3"


def credentials(services):
    environment = services.file["x-environment"]
    return {
        key: services.text("bucket", str(value), {}) for key, value in environment.items() if key.startswith("AWS_")
    }


def variables(services):
    """What a command of tidelog needs to reach this topology and its bucket."""
    ports = {name: f"http://{address}:7070" for name, address in services.addresses.items()}
    servers = [ports["load-balancer"]] if "load-balancer" in services.programs else [ports["gateway-1"], ports["gateway-2"]]
    nodes = [f"http://{services.addresses[name]}:7071" for name in ["node-1", "node-2", "node-3"]]
    result = credentials(services) | {
        "TIDELOG_SERVER": ",".join(servers),
        "TIDELOG_ADMIN_SERVER": ",".join(nodes),
        "TIDELOG_GATEWAYS": ",".join(
            f"http://{services.addresses[name]}:7071" for name in ["gateway-1", "gateway-2", "compactor"]
        ),
        "TIDELOG_BUCKET": services.file["x-environment"]["TIDELOG__BUCKET"],
    }
    if not os.environ.get("S3_ENDPOINT"):
        result["S3_OBJECTS"] = str(objects() / "tidelog")
    if "prometheus" in services.programs:
        result["PROMETHEUS"] = f"http://{services.addresses['prometheus']}:9090"
    return result


def status(services):
    for name in [S3, *services.order]:
        pid = Process(name).pid()
        state = f"process {pid}" if pid else "not running"
        print(f"{name:14} {services.addresses[name]:14} {state:16} {Process(name).log}")


def main():
    services = Services()
    verb, *flags = sys.argv[1:] or ["help"]
    if verb == "up":
        # A signal while it starts ends what was started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            up(services)
            if "--detach" in flags:
                return
            status(services)
            for name, value in variables(services).items():
                print(f"export {name}='{value}'")
            print("Ctrl-C ends all of them", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            pass
        except SystemExit:
            down(services)
            raise
        down(services)
    elif verb == "down":
        down(services)
    elif verb in ("start", "stop", "kill"):
        unknown = [name for name in flags if name not in (S3, *services.programs)]
        if unknown or not flags:
            fail(f"{verb} takes names of services: {', '.join([S3, *services.order])}")
        for name in flags:
            if verb == "start" and name == S3:
                up_s3(services)
            elif verb == "start":
                start(services, name)
                wait_for(services, name)
            else:
                Process(name).end(signal.SIGTERM if verb == "stop" else signal.SIGKILL)
    elif verb == "status":
        status(services)
    elif verb == "env":
        for name, value in variables(services).items():
            print(f"export {name}='{value}'")
    else:
        fail("up [--detach], down, start NAME, stop NAME, kill NAME, status or env")


main()

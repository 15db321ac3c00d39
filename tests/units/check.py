"""What no linter knows of the units: that they agree with each other and with the project. run.sh calls it."""

import argparse
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = "/etc/hubprint/nightly.toml"
PART = "/etc/hubprint/part.toml"
# What hubprint.slurm may say to sbatch. Slurm takes these and more; a mistyped one it refuses only on the cluster.
SBATCH = {
    "array": r"1-\d+",
    "cpus-per-task": r"\d+",
    "job-name": r"[\w-]+",
    "mem": r"\d+[KMGT]",
    "ntasks": r"\d+",
    "open-mode": r"append|truncate",
    "output": r"[\w./%-]+",
    "requeue": None,
    "signal": r"(B:)?(TERM|USR1|USR2|INT)@\d+",
    "time": r"(\d+-)?\d\d:\d\d:\d\d",
}
problems = []


def expect(condition, text):
    if not condition:
        problems.append(text)


def unit_values(path):
    """The values of each key of a systemd unit, in order."""
    values = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith(("#", ";")):
            key, value = line.split("=", 1)
            values.setdefault(key.strip(), []).append(value.strip())
    return values


def instructions(path):
    """The Containerfile's instructions as (name, arguments)."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def run_steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def load(units):
    documents = list(yaml.safe_load_all((units / "cronjob.yaml").read_text()))
    return {
        "service": unit_values(units / "hubprint.service"),
        "timer": unit_values(units / "hubprint.timer"),
        "objects": {document["kind"]: document for document in documents},
        "workflow": yaml.safe_load((units / "github-actions.yml").read_text()),
        "container": instructions(units / "Containerfile"),
        "parts": {document["kind"]: document for document in yaml.safe_load_all((units / "indexed-job.yaml").read_text())},
        "slurm": (units / "hubprint.slurm").read_text(),
        "readme": (units / "README.md").read_text(),
    }


def calls_in(script):
    """How a shell script calls hubprint."""
    lines = [line for line in script.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    calls = [re.split(r"(?:^|\s)hubprint\s", line, maxsplit=1)[1] for line in lines if re.search(r"(?:^|\s)hubprint\s", line)]
    return [shlex.split(re.split(r"\s(?:>|\|\|)", call)[0]) for call in calls]


def part_script(files):
    return "\n".join(pod_of_parts(files)["containers"][0]["args"])


def pod_of_parts(files):
    return files["parts"]["Job"]["spec"]["template"]["spec"]


def commands_of_parts(files):
    return {"indexed-job.yaml": calls_in(part_script(files)), "hubprint.slurm": calls_in(files["slurm"])}


def commands(files):
    """How each nightly unit calls hubprint: the arguments after the program's name."""
    found = {}
    found["hubprint.service"] = [shlex.split(line)[1:] for line in files["service"].get("ExecStart", [])]
    container = pod(files)["containers"][0]
    found["cronjob.yaml"] = [container["args"]]
    lines = "\n".join(step["run"] for step in run_steps(files["workflow"])).replace("\\\n", " ").splitlines()
    calls = [re.split(r"bin/hubprint\s", line, maxsplit=1)[1] for line in lines if re.search(r"bin/hubprint\s", line)]
    found["github-actions.yml"] = [shlex.split(re.split(r"\s(?:>|\|\|)", call)[0]) for call in calls]
    found["Containerfile"] = [json.loads(text) for name, text in files["container"] if name == "CMD"]
    return found


def pod(files):
    return files["objects"]["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def check_agreement(files):
    nightly = (ROOT / "pipelines/nightly.toml").read_text()
    database = re.search(r'^path = "(.*)"$', nightly, re.M).group(1)
    toolchain = re.search(r'^channel = "(.*)"$', (ROOT / "rust-toolchain.toml").read_text(), re.M).group(1)
    version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M).group(1)

    for name, calls in commands(files).items():
        expect(len(calls) == 1, f"{name}: calls hubprint {len(calls)} times")
        for call in calls:
            expect("run" in call and PIPELINE in call, f"{name}: does not run {PIPELINE}: {call}")

    service = files["service"]
    codes = " ".join(service.get("RestartPreventExitStatus", [])).split()
    expect("2" in codes and "75" not in codes, f"hubprint.service: 2 must not restart, 75 must: {codes}")
    expect(service.get("Restart") == ["on-failure"], "hubprint.service: 75 does not restart")
    expect("1" in " ".join(service.get("SuccessExitStatus", [])).split(), "hubprint.service: 1 is a failure")
    folders = [f"/var/lib/{name}" for name in " ".join(service["StateDirectory"]).split()]
    expect(str(Path(database).parent) in folders, f"hubprint.service: {database} is not in {folders}")

    objects, template = files["objects"], pod(files)
    job = objects["CronJob"]["spec"]["jobTemplate"]["spec"]
    container = template["containers"][0]
    expect(objects["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid", "cronjob.yaml: two runs at once")
    expect(objects["ConfigMap"]["data"]["nightly.toml"] == nightly, "cronjob.yaml: not the text of nightly.toml")
    expect(container["image"] == f"hubprint:{version}", f"cronjob.yaml: the version is {version}: {container['image']}")
    expect(template["restartPolicy"] == "Never", "cronjob.yaml: podFailurePolicy needs restartPolicy Never")
    expect(template["terminationGracePeriodSeconds"] > 30, "cronjob.yaml: the run needs 30 seconds to end")
    actions = {}
    for rule in job["podFailurePolicy"]["rules"]:
        for code in rule.get("onExitCodes", {}).get("values", []):
            expect(rule["onExitCodes"]["operator"] == "In", f"cronjob.yaml: {rule}")
            expect(rule["onExitCodes"]["containerName"] == container["name"], f"cronjob.yaml: {rule}")
            actions[code] = rule["action"]
    expect(actions == {1: "FailJob", 2: "FailJob", 75: "Count"}, f"cronjob.yaml: exit codes: {actions}")
    volumes = {volume["name"]: volume for volume in template["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    expect(set(volumes) == set(mounts), f"cronjob.yaml: volumes {set(volumes)}, mounted {set(mounts)}")
    for volume in volumes.values():
        for kind, owner, key in [
            ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ("ConfigMap", "configMap", "name"),
        ]:
            if owner in volume:
                place, wanted = mounts[volume["name"]], PIPELINE if kind == "ConfigMap" else database
                expect(volume[owner][key] == objects[kind]["metadata"]["name"], f"cronjob.yaml: no {kind} of {volume}")
                expect(wanted.startswith(place + "/"), f"cronjob.yaml: {wanted} is not below {place}")
    token = {variable["name"]: variable["value"] for variable in container["env"]}["HF_TOKEN_PATH"]
    secret = next(volume["name"] for volume in volumes.values() if "secret" in volume)
    expect(str(Path(token).parent) == mounts[secret], f"cronjob.yaml: {token} is not in {mounts[secret]}")

    base = next(text for name, text in files["container"] if name == "FROM")
    expect(base.startswith(f"rust:{toolchain}-"), f"Containerfile: the toolchain is {toolchain}: {base}")
    expect(("ENV", f"RUSTUP_TOOLCHAIN={toolchain}") in files["container"], f"Containerfile: RUSTUP_TOOLCHAIN={toolchain}")
    users = [text for name, text in files["container"] if name == "USER"]
    security = template["securityContext"]
    expect(users == [f"{security['runAsUser']}:{security['runAsGroup']}"], f"Containerfile: USER {users}, {security}")
    expect(("STOPSIGNAL", "SIGTERM") in files["container"], "Containerfile: STOPSIGNAL SIGTERM")


def settings_of(toml):
    """The lines of a pipeline file that mean something."""
    return [line for line in toml.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def check_parts(files):
    """The units that run the parts of a crawl."""
    for name, calls in commands_of_parts(files).items():
        expect(len(calls) == 1, f"{name}: calls hubprint {len(calls)} times")
        for call in calls:
            expect("--partition" in call, f"{name}: runs no part: {call}")

    nightly, name = (ROOT / "pipelines/nightly.toml").read_text(), "indexed-job.yaml"
    objects, job, template = files["parts"], files["parts"]["Job"]["spec"], pod_of_parts(files)
    container, night = template["containers"][0], pod(files)
    text = objects["ConfigMap"]["data"]["part.toml"]
    database = re.search(r'^path = "(.*)"$', text, re.M).group(1)
    expect(re.match(r"(s3|gs|az)://", database), f"{name}: the database is in no bucket: {database}")
    ours = [line for line in settings_of(text) if not line.startswith("path = ")]
    # One job indexes and looks after what all parts have written.
    crawl = nightly[: nightly.index("\n[index]")]
    theirs = [line for line in settings_of(crawl) if not line.startswith("path = ")]
    expect(ours == theirs, f"{name}: not the settings of the crawl of nightly.toml: {set(ours) ^ set(theirs)}")
    expect("run" in calls_in(part_script(files))[0] and PART in calls_in(part_script(files))[0], f"{name}: runs no {PART}")
    parts = {variable["name"]: variable["value"] for variable in container["env"]}["PARTS"]
    counts = {str(job["completions"]), str(job["parallelism"]), str(parts)}
    expect(len(counts) == 1, f"{name}: the number of parts is {sorted(counts)}")
    expect(job["completionMode"] == "Indexed", f"{name}: not indexed")
    expect('"$part/$PARTS"' in part_script(files), f"{name}: not the part of the index")
    expect("part=$((JOB_COMPLETION_INDEX + 1))" in part_script(files), f"{name}: parts begin at 1")
    expect("exec hubprint " in part_script(files), f"{name}: the shell would keep the SIGTERM")
    expect(container["image"] == night["containers"][0]["image"], f"{name}: another image than cronjob.yaml")
    for key in ["restartPolicy", "terminationGracePeriodSeconds", "automountServiceAccountToken", "enableServiceLinks"]:
        expect(template.get(key) == night[key], f"{name}: {key} is not as in cronjob.yaml")
    expect(template.get("securityContext") == night["securityContext"], f"{name}: securityContext of the pod")
    hardened = night["containers"][0]["securityContext"]
    expect(container.get("securityContext") == hardened, f"{name}: securityContext of the container")
    expect("backoffLimitPerIndex" in job, f"{name}: one part that fails ends all")
    actions = {}
    for rule in job["podFailurePolicy"]["rules"]:
        for code in rule.get("onExitCodes", {}).get("values", []):
            expect(rule["onExitCodes"]["containerName"] == container["name"], f"{name}: {rule}")
            actions[code] = rule["action"]
    expect(actions == {1: "FailIndex", 2: "FailIndex", 75: "Count"}, f"{name}: exit codes: {actions}")
    volumes = {volume["name"]: volume for volume in template["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    expect(set(volumes) == set(mounts), f"{name}: volumes {set(volumes)}, mounted {set(mounts)}")
    configured = volumes["pipeline"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    expect(configured and PART.startswith(mounts["pipeline"] + "/"), f"{name}: {PART} is not there")
    expect(mounts["token"] + "/hf-token" in part_script(files), f"{name}: no token from {mounts['token']}")
    cache = {variable["name"]: variable["value"] for variable in container["env"]}["XDG_CACHE_HOME"]
    expect(cache == mounts["mirror"], f"{name}: the mirror is in {cache}, and not in a volume")
    secrets = [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
    for secret in [*secrets, volumes["token"]["secret"]["secretName"]]:
        expect(f"create secret generic {secret} " in files["readme"], f"{name}: README.md does not say how to make {secret}")


def check_slurm(files):
    """What sbatch would read of the script: the lines before the first command."""
    name, said, code = "hubprint.slurm", {}, False
    for number, line in enumerate(files["slurm"].splitlines(), 1):
        code |= bool(line.strip()) and not line.startswith("#")
        if not re.match(r"\s*#+\s*SBATCH\b", line, re.I):
            continue
        option = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
        expect(not code, f"{name}:{number}: behind the first command, where Slurm does not look: {line}")
        expect(option, f"{name}:{number}: no option: {line}")
        if option:
            key, value = option.groups()
            expect(key in SBATCH, f"{name}:{number}: unknown option --{key}")
            expect(key not in said, f"{name}:{number}: --{key} twice")
            form = SBATCH.get(key)
            right = value is None if form is None else value is not None and re.fullmatch(form, value)
            expect(key not in SBATCH or right, f"{name}:{number}: not a value of --{key}: {value}")
            said[key] = value
    parts = re.search(r"^PARTS=(\d+)$", files["slurm"], re.M).group(1)
    expect(said.get("array") == f"1-{parts}", f"{name}: {parts} parts, --array={said.get('array')}")
    expect("signal" in said and "srun hubprint " in files["slurm"], f"{name}: hubprint gets no SIGTERM")
    expect('--partition "$part/$PARTS"' in files["slurm"], f"{name}: not the part of the task")
    # A --filter would make it a part of the list, in which nothing is ever seen to have gone.
    call = [argument for call in calls_in(files["slurm"]) for argument in call]
    expect("--format" in call and "--filter" not in call, f"{name}: not the repositories of nightly.toml")


def check_flags(files, binary):
    readme = calls_in("\n".join(re.findall(r"^hubprint .*|(?<=')hubprint .*(?=')", files["readme"], re.M)).replace(" && ", "\n"))
    for name, calls in [*commands(files).items(), *commands_of_parts(files).items(), ("README.md", readme)]:
        for call in calls:
            # What stands before the flags of its own names the subcommand: `db merge`, but `run FILE`.
            words = [word for word in call if not word.startswith("-")]
            subcommands = [word for word in words if word in ["run", "crawl", "index", "db", "status"]]
            expect(subcommands, f"{name}: no subcommand: {call}")
            if not subcommands:
                continue
            words = words[words.index(subcommands[0]) :]
            asked = [binary, *words[: 2 if words[0] == "db" else 1], "--help"]
            help_text = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
            known = set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", help_text, re.M))
            for flag in [word.split("=")[0] for word in call if word.startswith("-")]:
                expect(flag in known, f"{name}: {' '.join(asked[1:-1])} has no {flag}; it has {' '.join(sorted(known))}")


def ignored(path):
    """Whether .dockerignore keeps a file from the build: the last pattern that holds it or a folder above it."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            above = [str(part) for part in [path, *path.parents][:-1]]
            if any(fnmatch.fnmatchcase(part, pattern.lstrip("!")) for part in above):
                answer = not pattern.startswith("!")
    return answer


def copy_context(files, target):
    """Lays out what the first stage of the Containerfile sees."""
    stage = 0
    for name, text in files["container"]:
        stage += name == "FROM"
        if name != "COPY" or text.startswith("--from"):
            continue
        *sources, destination = text.split()
        for source in sources:
            origin = ROOT / source
            found = [file for file in ([origin] if origin.is_file() else origin.rglob("*")) if file.is_file()]
            found = [file for file in found if not ignored(file.relative_to(ROOT))]
            expect(found, f"Containerfile: COPY {source}: there is nothing, or .dockerignore keeps it away")
            for file in found if stage == 1 else []:
                inside = Path(destination) / (file.name if destination.endswith("/") else file.relative_to(origin))
                (target / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / inside)


def write_scripts(files, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(run_steps(files["workflow"])):
        expect("${{" not in step["run"], f"github-actions.yml: an expression within a script: {step['name']}")
        (folder / f"{number}.sh").write_text("#!/usr/bin/env bash\nset -eo pipefail\n" + step["run"])
    (folder / "part.sh").write_text("#!/bin/sh\nset -eu\n" + part_script(files))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=Path, required=True)
    parser.add_argument("--binary", help="check the flags against its help")
    parser.add_argument("--context", type=Path, help="lay out the container's build context here")
    parser.add_argument("--scripts", type=Path, help="write the workflow's scripts here")
    arguments = parser.parse_args()
    files = load(arguments.units)
    if arguments.binary:
        check_flags(files, arguments.binary)
    elif arguments.context:
        copy_context(files, arguments.context)
    elif arguments.scripts:
        write_scripts(files, arguments.scripts)
    else:
        check_agreement(files)
        check_parts(files)
        check_slurm(files)
    print("\n".join(problems))
    sys.exit(bool(problems))


main()

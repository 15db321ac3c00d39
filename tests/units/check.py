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
    }


def commands(files):
    """How each unit calls hubprint: the arguments after the program's name."""
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


def check_flags(files, binary):
    help_text = subprocess.run([binary, "run", "--help"], check=True, capture_output=True, text=True).stdout
    known = set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", help_text, re.M))
    for name, calls in commands(files).items():
        for flag in [word.split("=")[0] for call in calls for word in call if word.startswith("-")]:
            expect(flag in known, f"{name}: hubprint run has no {flag}; it has {' '.join(sorted(known))}")


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
    print("\n".join(problems))
    sys.exit(bool(problems))


main()

#!/usr/bin/env python3
"""Holds rendered manifests to what no schema sees: that they fit each other, the service, and the rules of the house.

    policy.py REPOSITORY RENDERED...

What has the same namespace is taken together, for there it meets: a Service must not find the pods of a Job that another
rendering brings. Each function below is one promise, and yields its faults.
"""

import re
import sys
from collections import defaultdict
from ipaddress import ip_address, ip_network
from pathlib import Path

import yaml

METADATA = [ip_network("169.254.169.254/32"), ip_network("fd00:ec2::254/128")]
PRIVATE = [ip_network(cidr) for cidr in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")]
PRIVATE += [ip_network(cidr) for cidr in ("192.168.0.0/16", "fc00::/7", "fe80::/10")]
# To end what works in the background and to close the database, after the drain (PING_TIMEOUT of src/server.rs, thrice).
AFTER_DRAIN = 6
# What each probe may ask for. A restart brings no database back.
PROBES = {"startupProbe": {"liveness", "readiness"}, "readinessProbe": {"readiness"}, "livenessProbe": {"liveness"}}
# The volumes of the `restricted` Pod Security Standard.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def title(obj):
    return f"{obj['kind']}/{obj['metadata']['name']}"


def may_overlap(one, other):
    return one.version == other.version and one.overlaps(other)


def within(one, other):
    return one.version == other.version and one.subnet_of(other)


def fits(selector, labels):
    """Whether labels fit a selector, which is a plain map in a Service."""
    if selector is None:
        return False
    if not {"matchLabels", "matchExpressions"} & selector.keys():
        return selector.items() <= labels.items()
    if selector.get("matchExpressions"):
        raise SystemExit("policy.py does not read matchExpressions; teach it, or use matchLabels")
    return selector["matchLabels"].items() <= labels.items()


class Workload:
    """Something that makes pods."""

    def __init__(self, obj, objects):
        self.obj, self.name, self.kind = obj, title(obj), obj["kind"]
        template = obj["spec"]["template"]
        self.labels = template["metadata"].get("labels") or {}
        self.annotations = template["metadata"].get("annotations") or {}
        self.pod = template["spec"]
        self.containers = [
            container
            for part in ("initContainers", "containers", "ephemeralContainers")
            for container in self.pod.get(part) or []
        ]
        self.config_maps = {o["metadata"]["name"]: o for o in objects if o["kind"] == "ConfigMap"}

    def settings(self, container):
        """What the container's environment says, as far as it stands in the manifests; None for what is in a Secret."""
        said = {}
        for source in container.get("envFrom") or []:
            said |= (self.config_maps.get((source.get("configMapRef") or {}).get("name")) or {}).get("data") or {}
        return said | {entry["name"]: entry.get("value") for entry in container.get("env") or []}


class Namespace:
    """What meets in one namespace."""

    def __init__(self, name, objects, user):
        self.name, self.objects, self.user = name, objects, user
        self.workloads = [Workload(o, objects) for o in objects if "template" in (o.get("spec") or {})]
        self.servers = [w for w in self.workloads if w.kind == "Deployment"]

    def of(self, kind):
        return [obj for obj in self.objects if obj["kind"] == kind]


def every_pod_is_looked_at(space):
    for kind in ("Pod", "CronJob", "ReplicationController", "PodTemplate"):
        for obj in space.of(kind):
            yield f"{title(obj)}: policy.py does not look at a {kind}; teach it"


def every_pod_meets_the_restricted_standard(space):
    for workload in space.workloads:
        pod, of_pod = workload.pod, workload.pod.get("securityContext") or {}
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(key):
                yield f"{workload.name}: {key}"
        for volume in pod.get("volumes") or []:
            for kind in volume.keys() - {"name"} - VOLUMES:
                yield f"{workload.name}: volume {volume['name']} is a {kind}"
        for container in workload.containers:
            own = container.get("securityContext") or {}
            both = of_pod | own
            wants = {
                "runAsNonRoot: true": both.get("runAsNonRoot") is True,
                f"runAsUser: {space.user}, as the Dockerfile": both.get("runAsUser") == space.user,
                "seccompProfile RuntimeDefault": (both.get("seccompProfile") or {}).get("type") == "RuntimeDefault",
                "allowPrivilegeEscalation: false": own.get("allowPrivilegeEscalation") is False,
                "readOnlyRootFilesystem: true": own.get("readOnlyRootFilesystem") is True,
                "no privileged": not own.get("privileged"),
                "capabilities: drop ALL, add none": (own.get("capabilities") or {}) == {"drop": ["ALL"]},
                "no hostPort": not any("hostPort" in port for port in container.get("ports") or []),
            }
            for want, kept in wants.items():
                if not kept:
                    yield f"{workload.name}: container {container['name']} wants {want}"


def every_pod_has_no_rights_and_no_strange_variables(space):
    accounts = {account["metadata"]["name"]: account for account in space.of("ServiceAccount")}
    for workload in space.workloads:
        account = accounts.get(workload.pod.get("serviceAccountName"))
        if account is None:
            yield f"{workload.name}: no ServiceAccount of its own"
        elif account.get("automountServiceAccountToken") is not False:
            yield f"{title(account)}: automountServiceAccountToken is not false"
        for key in ("automountServiceAccountToken", "enableServiceLinks"):
            if workload.pod.get(key) is not False:
                yield f"{workload.name}: {key} is not false"


def every_container_says_what_it_takes(space):
    for workload in space.workloads:
        for container in workload.containers:
            resources = container.get("resources") or {}
            requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
            if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
                yield f"{workload.name}: container {container['name']} wants requests of cpu and memory, and a limit of memory"
            if "cpu" in limits:
                yield f"{workload.name}: container {container['name']} has a limit of cpu"


def images_are_of_one_release(space):
    images = {(w.name, c["image"]) for w in space.workloads for c in w.containers}
    # The base has no namespace, and leaves it to overlays.
    for name, image in sorted(images) if space.name else ():
        if "@sha256:" not in image and (":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")):
            yield f"{name}: image {image} is not of a release"
    if len({image for _, image in images}) > 1:
        yield f"images differ: {', '.join(f'{name} {image}' for name, image in sorted(images))}"


def servers_are_probed_by_grpc(space):
    for workload in space.servers:
        for container in workload.containers:
            health = port_of(workload.settings(container).get("TENANTRY_HEALTH_LISTEN"))
            for key, services in PROBES.items():
                probe = (container.get(key) or {}).get("grpc")
                if probe is None:
                    yield f"{workload.name}: {key} is missing, or not gRPC"
                elif probe.get("service") not in services:
                    yield f"{workload.name}: {key} asks for {probe.get('service')!r}, not for {' or '.join(sorted(services))}"
                elif probe.get("port") != health:
                    yield f"{workload.name}: {key} asks port {probe.get('port')}, and health is on {health}"


def probed_services_are_known_to_the_server(space, repository):
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((repository / "src").rglob("*.rs")))
    for workload in space.servers:
        for container in workload.containers:
            for key in PROBES:
                service = ((container.get(key) or {}).get("grpc") or {}).get("service")
                if f'"{service}"' not in source:
                    yield f"{workload.name}: {key} asks for {service!r}, which is not in src"


def servers_may_stop_in_peace(space):
    for workload in space.servers:
        grace = workload.pod.get("terminationGracePeriodSeconds", 30)
        for container in workload.containers:
            sleep = (((container.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}).get("seconds")
            drain = workload.settings(container).get("TENANTRY_DRAIN_SECONDS")
            if not sleep or not drain:
                yield f"{workload.name}: wants a preStop sleep and TENANTRY_DRAIN_SECONDS"
            elif grace <= sleep + int(drain) + AFTER_DRAIN:
                yield f"{workload.name}: terminationGracePeriodSeconds {grace} <= preStop {sleep} + drain {drain} + {AFTER_DRAIN}"


def servers_stay_while_they_roll_and_are_spread(space):
    for workload in space.servers:
        spec = workload.obj["spec"]
        rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        if rolling.get("maxUnavailable") != 0 or not rolling.get("maxSurge"):
            yield f"{workload.name}: a rollout wants maxUnavailable 0 and a maxSurge"
        name = workload.obj["metadata"]["name"]
        scaled = [h for h in space.of("HorizontalPodAutoscaler") if h["spec"]["scaleTargetRef"]["name"] == name]
        if scaled and "replicas" in spec:
            yield f"{workload.name}: has replicas beside {title(scaled[0])}, which each apply would set back"
        if (scaled[0]["spec"].get("minReplicas", 1) if scaled else spec.get("replicas", 1)) < 2:
            yield f"{workload.name}: one replica is none while its node is drained"
        spread = workload.pod.get("topologySpreadConstraints") or []
        if not {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} <= {one["topologyKey"] for one in spread}:
            yield f"{workload.name}: wants to be spread by zone and by host"
        for one in spread:
            if not fits(one.get("labelSelector"), workload.labels):
                yield f"{workload.name}: the spread by {one['topologyKey']} does not count its own pods"


def selectors_find_servers_and_nothing_else(space):
    selectors = [(title(w.obj), w.obj["spec"].get("selector")) for w in space.servers]
    selectors += [(title(o), o["spec"].get("selector")) for o in space.of("Service") + space.of("PodDisruptionBudget")]
    for name, selector in selectors:
        found = {w.name: w.kind for w in space.workloads if fits(selector, w.labels)}
        if "Deployment" not in found.values():
            yield f"{name}: finds no server"
        for other, kind in found.items():
            if kind != "Deployment":
                yield f"{name}: takes the pods of {other} for servers"
    for kind in ("Service", "PodDisruptionBudget"):
        if space.servers and not space.of(kind):
            yield f"no {kind}"
    for scaler in space.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if f"{target['kind']}/{target['name']}" not in {w.name for w in space.workloads}:
            yield f"{title(scaler)}: scales {target['kind']}/{target['name']}, which is not there"


def ports_are_those_that_the_server_listens_on(space):
    for workload in space.servers:
        for container in workload.containers:
            settings = workload.settings(container)
            listens = {port_of(value) or value for name, value in settings.items() if name.endswith("_LISTEN")}
            ports = {port.get("name"): port["containerPort"] for port in container.get("ports") or []}
            if listens != set(ports.values()):
                yield f"{workload.name}: has the ports {sorted(ports.values())} and listens on {sorted(listens, key=str)}"
            if workload.annotations.get("prometheus.io/port") != str(port_of(settings.get("TENANTRY_METRICS_LISTEN"))):
                yield f"{workload.name}: prometheus.io/port is not that of TENANTRY_METRICS_LISTEN"
            for service in space.of("Service"):
                for port in service["spec"]["ports"]:
                    target = port.get("targetPort", port["port"])
                    if target not in ports and target not in ports.values():
                        yield f"{title(service)}: {target} is no port of {workload.name}"
            for policy in space.of("NetworkPolicy"):
                if not fits(policy["spec"]["podSelector"], workload.labels):
                    continue
                for rule in policy["spec"].get("ingress") or []:
                    for port in rule.get("ports") or [{"port": "any"}]:
                        if port["port"] not in ports and port["port"] not in ports.values():
                            yield f"{title(policy)}: lets in to {port['port']}, which is no port of {workload.name}"


def files_that_settings_name_are_mounted_and_renewed(space):
    for workload in space.workloads:
        for container in workload.containers:
            mounts = container.get("volumeMounts") or []
            for mount in mounts:
                if "subPath" in mount or "subPathExpr" in mount:
                    yield f"{workload.name}: {mount['mountPath']} is a subPath, which is never renewed"
            for name, value in workload.settings(container).items():
                if value and value.startswith("/") and not any(Path(m["mountPath"]) in Path(value).parents for m in mounts):
                    yield f"{workload.name}: {name} is {value}, and nothing is mounted there"


def what_is_named_is_there_and_no_secret_is(space):
    for workload in space.workloads:
        named = {(v.get("configMap") or {}).get("name") for v in workload.pod.get("volumes") or []}
        for container in workload.containers:
            named |= {(source.get("configMapRef") or {}).get("name") for source in container.get("envFrom") or []}
        for name in sorted(named - {None} - workload.config_maps.keys()):
            yield f"{workload.name}: there is no ConfigMap {name}"
    for secret in space.of("Secret"):
        yield f"{title(secret)}: a Secret does not belong in the repository"
    said = [(title(obj), obj.get("data") or {}) for obj in space.of("ConfigMap")]
    said += [(w.name, w.settings(container)) for w in space.workloads for container in w.containers]
    for name, values in said:
        for key, value in values.items():
            # A password in a URL, a private key, or a setting that is a secret by its name.
            if value and (re.search(r"PRIVATE KEY|://[^/\s:@]*:[^/\s@]+@", value) or re.search(r"SECRET|PASSWORD", key)):
                yield f"{name}: {key} looks like a secret"


def nothing_is_reached_that_no_rule_allows(space):
    policies = space.of("NetworkPolicy")
    for workload in space.workloads:
        directions = {d for p in policies if fits(p["spec"]["podSelector"], workload.labels) for d in p["spec"]["policyTypes"]}
        for direction in {"Ingress", "Egress"} - directions:
            yield f"{workload.name}: no NetworkPolicy restricts its {direction}"
    for policy in policies:
        if not any(fits(policy["spec"]["podSelector"], w.labels) for w in space.workloads):
            yield f"{title(policy)}: is of no pod"
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(way) or []:
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{title(policy)}: a rule of {way} is for anybody, or for any port"
                for peer in rule.get(peers) or []:
                    yield from (f"{title(policy)}: {fault}" for fault in block_faults(peer.get("ipBlock")))


def block_faults(block):
    if block is None:
        return
    cidr, excepted = ip_network(block["cidr"]), [ip_network(cidr) for cidr in block.get("except") or []]
    for one in excepted:
        if not within(one, cidr) or one == cidr:
            yield f"{one} is not within {cidr}, and the API would refuse it"
    # What a cloud tells a machine about itself is for nobody here; and who may reach the internet shall not reach the cluster by it.
    is_private = any(within(cidr, one) for one in PRIVATE)
    for hidden in METADATA + ([] if is_private else PRIVATE):
        if may_overlap(hidden, cidr) and not any(within(hidden, one) for one in excepted):
            yield f"{hidden} is within {cidr}, and not excepted"


def jobs_end_and_go(space):
    for workload in space.workloads:
        if workload.kind == "Job" and not {"backoffLimit", "ttlSecondsAfterFinished"} <= workload.obj["spec"].keys():
            yield f"{workload.name}: wants backoffLimit and ttlSecondsAfterFinished"


def names_are_taken_once(space):
    seen = [title(obj) for obj in space.objects]
    for name in sorted({name for name in seen if seen.count(name) > 1}):
        yield f"{name}: is there twice"


PROMISES = [
    every_pod_is_looked_at,
    every_pod_meets_the_restricted_standard,
    every_pod_has_no_rights_and_no_strange_variables,
    every_container_says_what_it_takes,
    images_are_of_one_release,
    servers_are_probed_by_grpc,
    servers_may_stop_in_peace,
    servers_stay_while_they_roll_and_are_spread,
    selectors_find_servers_and_nothing_else,
    ports_are_those_that_the_server_listens_on,
    files_that_settings_name_are_mounted_and_renewed,
    what_is_named_is_there_and_no_secret_is,
    nothing_is_reached_that_no_rule_allows,
    jobs_end_and_go,
    names_are_taken_once,
]


def port_of(address):
    """The port of an address that can be reached from outside the pod."""
    port = (address or "").rpartition(":")[2]
    return int(port) if port.isdigit() and not ip_address(address.rpartition(":")[0].strip("[]")).is_loopback else None


def user_of(repository):
    """As whom the image runs."""
    users = re.findall(r"^USER\s+(\d+)", (repository / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return int(users[-1]) if users else None


def settings_exist(repository):
    """Every setting that the manifests or their README name is one of the server."""
    source = repository / "src" / "config.rs"
    settings = set(re.findall(r'\benv\s*=\s*"(TENANTRY_[A-Z0-9_]+)"', source.read_text(encoding="utf-8")))
    if not settings:
        yield f"{source}: no settings found in it"
    for path in sorted((repository / "deploy" / "kubernetes").rglob("*")):
        if path.suffix in {".yaml", ".env", ".md"}:
            named = set(re.findall(r"\bTENANTRY_[A-Z0-9_]*[A-Z0-9]", path.read_text(encoding="utf-8")))
            for name in sorted(named - settings):
                yield f"{path.relative_to(repository)}: {name} is no setting of src/config.rs"


def main(repository, paths):
    spaces, count = defaultdict(list), 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for obj in yaml.safe_load_all(file):
                if obj is not None:
                    spaces[obj["metadata"].get("namespace")].append(obj)
                    count += 1
    found, workloads, user = list(settings_exist(repository)), 0, user_of(repository)
    for name, objects in spaces.items():
        space = Namespace(name, objects, user)
        workloads += len(space.workloads)
        faults = [fault for promise in PROMISES for fault in promise(space)]
        faults += probed_services_are_known_to_the_server(space, repository)
        found += [f"{name or 'without a namespace'}: {fault}" for fault in faults]
    if not workloads:
        found.append("nothing that makes pods was rendered")
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(PROMISES) + 2} promises, {count} objects, {workloads} that make pods, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

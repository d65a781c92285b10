//! What `deploy/kubernetes` says, as far as a kubelet and a container runtime act on it.

use std::fs;
use std::path::{Path, PathBuf};

use caps::Capability;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file of the deployment.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes").join(name)
}

fn parsed<T: DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[derive(Debug, Deserialize)]
struct DaemonSet {
    spec: DaemonSetSpec,
}

#[derive(Debug, Deserialize)]
struct DaemonSetSpec {
    template: Template,
}

#[derive(Debug, Deserialize)]
struct Template {
    spec: Pod,
}

/// A pod.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) host_network: bool,
    pub(super) volumes: Vec<Volume>,
    containers: Vec<Container>,
}

/// Its one container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    args: Vec<String>,
    env: Vec<Variable>,
    pub(super) ports: Vec<Port>,
    pub(super) startup_probe: Probe,
    pub(super) readiness_probe: Probe,
    pub(super) liveness_probe: Option<Probe>,
    pub(super) security_context: SecurityContext,
    pub(super) volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable {
    name: String,
    value: Option<String>,
    value_from: Option<Source>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    field_ref: FieldRef,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldRef {
    field_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) container_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    /// The probes depend on no port that strangers reach.
    pub(super) exec: Exec,
    pub(super) period_seconds: u32,
    pub(super) timeout_seconds: u32,
    #[serde(rename = "failureThreshold")]
    _failure_threshold: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Exec {
    pub(super) command: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecurityContext {
    pub(super) run_as_user: u32,
    pub(super) privileged: bool,
    pub(super) allow_privilege_escalation: bool,
    pub(super) read_only_root_filesystem: bool,
    capabilities: Capabilities,
}

#[derive(Debug, Deserialize)]
struct Capabilities {
    drop: Vec<String>,
    add: Vec<String>,
}

/// Where a container sees a volume.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) mount_path: PathBuf,
    #[serde(default)]
    pub(super) read_only: bool,
    #[serde(default)]
    pub(super) mount_propagation: Propagation,
}

/// Which mounts are seen beyond the volume itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Propagation {
    #[default]
    None,
    HostToContainer,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) host_path: Option<HostPath>,
    pub(super) config_map: Option<ConfigMapVolume>,
    pub(super) empty_dir: Option<EmptyDir>,
}

/// A directory of the pod's own, in memory.
#[derive(Debug, Deserialize)]
pub(super) struct EmptyDir {
    pub(super) medium: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct HostPath {
    pub(super) path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigMapVolume {
    pub(super) name: String,
    pub(super) default_mode: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kustomization {
    config_map_generator: Vec<Generator>,
    generator_options: GeneratorOptions,
}

#[derive(Debug, Deserialize)]
struct Generator {
    name: String,
    files: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeneratorOptions {
    disable_name_suffix_hash: bool,
}

impl Pod {
    /// The pod of `base/daemonset.yaml`.
    pub(super) fn read() -> Self {
        parsed::<DaemonSet>("base/daemonset.yaml").spec.template.spec
    }

    pub(super) fn container(&self) -> &Container {
        let [container] = &*self.containers else { panic!("one container, not {}", self.containers.len()) };
        container
    }

    pub(super) fn volume(&self, name: &str) -> &Volume {
        self.volumes.iter().find(|volume| volume.name == name).unwrap_or_else(|| panic!("no volume {name}"))
    }

    /// Its ConfigMap.
    pub(super) fn config_map(&self) -> &ConfigMapVolume {
        self.volumes.iter().find_map(|volume| volume.config_map.as_ref()).expect("a ConfigMap")
    }
}

impl Container {
    /// What the kubelet asks it.
    pub(super) fn probes(&self) -> [&Probe; 2] {
        [&self.startup_probe, &self.readiness_probe]
    }

    /// Its environment on a node with that address.
    pub(super) fn environment(&self, node_address: &str) -> Vec<(String, String)> {
        let value = |variable: &Variable| match (&variable.value, &variable.value_from) {
            (Some(value), None) => value.clone(),
            (None, Some(from)) if from.field_ref.field_path == "status.hostIP" => node_address.to_owned(),
            other => panic!("what is {other:?}?"),
        };
        self.env.iter().map(|variable| (variable.name.clone(), value(variable))).collect()
    }

    /// Its arguments on a node with that address.
    pub(super) fn arguments(&self, node_address: &str) -> Vec<String> {
        let environment = self.environment(node_address);
        let expand = |argument: &String| {
            environment
                .iter()
                .fold(argument.clone(), |text, (name, value)| text.replace(&format!("$({name})"), value))
        };
        self.args.iter().map(expand).collect()
    }

    /// The port of that name.
    pub(super) fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|port| port.name == name).expect("the port has a name").container_port
    }
}

impl SecurityContext {
    /// The capabilities that it leaves to root.
    pub(super) fn capabilities(&self) -> Vec<Capability> {
        assert_eq!(self.capabilities.drop, ["ALL"]);
        let capability =
            |name: &String| format!("CAP_{name}").parse().unwrap_or_else(|_| panic!("no {name}"));
        self.capabilities.add.iter().map(capability).collect()
    }
}

/// The ConfigMap that `base/kustomization.yaml` makes: its name and the files that are in it, and whether its name stays as it is when they
/// change.
pub(super) fn generated_config_map() -> (String, Vec<PathBuf>, bool) {
    let Kustomization { config_map_generator, generator_options } = parsed("base/kustomization.yaml");
    let [Generator { name, files }] = &*config_map_generator else { panic!("one ConfigMap") };
    let files = files.iter().map(|name| file("base").join(name)).collect();
    (name.clone(), files, generator_options.disable_name_suffix_hash)
}

/// The allowlist of the example.
pub(super) fn example_list() -> PathBuf {
    file("overlays/example/allowlist.yaml")
}

/// The program that the image runs: `Dockerfile` copies it to the place that it names as the entry point.
pub(super) fn entry_point() -> PathBuf {
    let text = fs::read_to_string(file("Dockerfile")).expect("a Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let [from, copy, entry] = &*lines else { panic!("{lines:?}") };
    assert_eq!(*from, "FROM scratch");
    let (_, path) = copy.strip_prefix("COPY ").and_then(|it| it.split_once(' ')).expect("COPY FROM TO");
    assert_eq!(*entry, format!("ENTRYPOINT [\"{path}\"]"));
    path.into()
}

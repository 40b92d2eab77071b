use serde_json::{Value, json};

use super::*;
use crate::spec::Template;

fn template(fields: Value) -> Template {
    let mut template = json!({"image": "app:1"});
    template.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(template).unwrap()
}

fn refused(policy: &Policy, fields: Value) -> Vec<String> {
    let demands = template(fields).demands();
    demands.iter().filter_map(|demand| policy.refusal(demand)).map(|refusal| refusal.what).collect()
}

fn volume(options: Value) -> Value {
    json!({"mounts": [{"type": "volume", "source": "v", "target": "/v", "options": options}]})
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn an_empty_policy_allows_what_asks_nothing_of_the_host() {
    let harmless = json!({
        "command": ["a"], "env": {"A": "1"}, "user": "0:0", "ports": [{"target": 80, "published": 80}],
        "mounts": [{"type": "volume", "source": "v", "target": "/v"}, {"type": "tmpfs", "target": "/t"}],
        "networks": [{"name": "n"}], "cap_drop": ["ALL"], "ipc": "shareable",
        "security_opt": ["no-new-privileges", "no-new-privileges=true"],
    });
    assert_eq!(refused(&Policy::default(), harmless), Vec::<String>::new());
    assert_eq!(refused(&Policy::default(), volume(json!({"type": "tmpfs", "device": "tmpfs"}))), [""; 0]);
}

#[test]
fn what_is_not_allowed_is_refused_by_its_name() {
    let policy = Policy::default();
    for (fields, what) in [
        (json!({"privileged": true}), "privileged containers"),
        (json!({"networks": [{"name": "host"}]}), "the host's network"),
        (json!({"pid": "host"}), "the host's pid namespace"),
        (json!({"ipc": "host"}), "the host's ipc namespace"),
        (json!({"userns": "host"}), "the host's user namespace"),
        (json!({"security_opt": ["seccomp=unconfined"]}), "the security option seccomp=unconfined"),
        (json!({"security_opt": ["no-new-privileges=false"]}), "the security option no-new-privileges=false"),
        (json!({"cgroup_parent": "/system"}), "the control group /system"),
        (json!({"devices": [{"source": "/dev/sda"}]}), "the device /dev/sda"),
        (json!({"device_requests": [{"capabilities": [["gpu"]]}]}), "gpu devices"),
        (json!({"device_requests": [{"driver": "nvidia"}]}), "nvidia devices"),
        (json!({"device_requests": [{"capabilities": [[]]}]}), "any devices"),
        (json!({"cap_add": ["CAP_SYS_ADMIN"]}), "the capability SYS_ADMIN"),
        (json!({"cap_add": ["ALL"]}), "the capability ALL"),
        (json!({"sysctls": {"net/ipv4/ip_forward": "1"}}), "the kernel parameter net.ipv4.ip_forward"),
        (json!({"logging": {"driver": "syslog"}}), "the logging driver syslog"),
        (json!({"mounts": [{"type": "bind", "source": "/etc", "target": "/e"}]}), "the mount of /etc"),
        (
            json!({"mounts": [{"type": "volume", "source": "v", "target": "/v", "driver": "rexray"}]}),
            "the volume driver rexray",
        ),
    ] {
        assert_eq!(refused(&policy, fields), [what]);
    }
    let own = Policy { registries: words(&["r.example"]), ..Policy::default() };
    assert_eq!(refused(&own, json!({})), ["images of docker.io"]);
    assert_eq!(refused(&own, json!({"image": "r.example/app:1"})), [""; 0]);
    let metadata = json!({"image": "169.254.169.254/app:1"});
    assert_eq!(refused(&Policy::default(), metadata.clone()), ["images of 169.254.169.254"]);
    let listed = Policy { registries: words(&["169.254.169.254"]), ..Policy::default() };
    assert_eq!(refused(&listed, metadata), [""; 0], "who lists it means it");
    assert_eq!(refused(&Policy::default(), json!({"image": "localhost:5000/app:1"})), [""; 0]);
    let pinned = Policy { digests_only: true, ..Policy::default() };
    assert_eq!(refused(&pinned, json!({})), ["images that are not named by their digest, such as app:1"]);
    let digest = format!("app@sha256:{}", "0".repeat(64));
    assert_eq!(refused(&pinned, json!({"image": digest})), [""; 0]);
}

#[test]
fn only_paths_below_listed_directories_are_mounted_whatever_the_field() {
    let policy = Policy { bind_dirs: words(&["/srv", "/data/"]), ..Policy::default() };
    for (path, is_allowed) in [
        ("/srv", true),
        ("/srv/", true),
        ("//srv/./a", true),
        ("/data/x", true),
        ("/srvx", false),
        ("/", false),
        ("/etc", false),
        ("/srv/../etc", false),
        ("srv", false),
        ("", false),
    ] {
        let expected = if is_allowed { vec![] } else { vec![format!("the mount of {path}")] };
        let bind = json!({"mounts": [{"type": "bind", "source": path, "target": "/m"}]});
        assert_eq!(refused(&policy, bind), expected, "{path}");
        for options in [
            json!({"type": "none", "o": "bind", "device": path}),
            json!({"o": "rw, rbind", "device": path}),
            json!({"device": path}),
            json!({"type": "tmpfs", "o": "ro,bind", "device": path}),
        ] {
            let expected = if path.is_empty() { vec![] } else { expected.clone() };
            assert_eq!(refused(&policy, volume(options.clone())), expected, "{options}");
        }
    }
}

#[test]
fn volumes_of_other_file_systems_and_with_other_options_are_refused() {
    let policy = Policy { volume_types: words(&["nfs"]), bind_dirs: words(&["/"]), ..Policy::default() };
    let nfs = json!({"type": "nfs", "o": "addr=10.0.0.9,rw", "device": ":/export"});
    assert_eq!(refused(&policy, volume(nfs)), [""; 0]);
    let disk = json!({"type": "ext4", "device": "/dev/sda1"});
    assert_eq!(refused(&policy, volume(disk)), ["volumes of the type ext4"]);
    let overlay = json!({"type": "overlay", "device": "overlay", "o": "lowerdir=/etc"});
    assert_eq!(refused(&policy, volume(overlay)), ["volumes of the type overlay"]);
    assert_eq!(refused(&policy, volume(json!({"size": "1g"}))), ["the volume option size"]);
    // The kernel goes by the word where it is one, and by the type where it is not.
    for o in ["bind", " bind", "rw,rbind"] {
        let both = json!({"type": "tracefs", "o": o, "device": "/x"});
        assert_eq!(
            refused(&Policy::default(), volume(both)),
            ["the mount of /x", "volumes of the type tracefs"]
        );
    }
    let moved = json!({"type": "tmpfs", "device": "tmpfs", "o": "move"});
    assert_eq!(refused(&policy, volume(moved)), ["the volume option o=move"]);
}

#[test]
fn the_engines_socket_is_mounted_by_no_name_that_leads_to_it() {
    let policy = Policy {
        bind_dirs: words(&["/"]),
        off_limits: words(&["/var/run/docker.sock"]),
        ..Policy::default()
    };
    for (path, is_allowed) in [
        ("/", false),
        ("/var", false),
        ("/var/run/", false),
        ("/var/run/docker.sock", false),
        ("/var/run/docker.sock/x", false),
        ("/var/lib", true),
    ] {
        let refusal = policy.refusal(&Demand::Bind(path.to_owned()));
        assert_eq!(refusal.is_none(), is_allowed, "{path}");
        assert!(refusal.is_none_or(|refusal| refusal.line.is_none()), "no line allows {path}");
    }
}

#[test]
fn a_refusal_tells_the_line_that_allows_it() {
    let policy = Policy { bind_dirs: words(&["/srv"]), ..Policy::default() };
    let refusal = policy.refusal(&Demand::Bind("/etc".into())).unwrap();
    assert_eq!(
        refusal.to_string(),
        "this host's policy refuses the mount of /etc; the host's operator can allow it: bind_dirs = \
         [\"/srv\", \"/etc\"] below [policy] in the agent's file"
    );
    let remedy = "; the operator of host h1 can allow it: bind_dirs = [\"/srv\", \"/etc\"] below [policy] \
                  in the agent's file";
    assert_eq!(refusal.remedy_on(&NodeName::parse("h1").unwrap()), remedy);
    let allowing = Policy { bind_dirs: words(&["/srv", "/etc"]), ..policy };
    assert_eq!(allowing.refusal(&Demand::Bind("/etc".into())), None);
}

#[test]
fn a_host_takes_so_many_replicas_and_so_much_memory() {
    let most = Policy { max_replicas: 2, max_memory_bytes: 100, ..Policy::default() };
    assert_eq!(most.has_no_room(1, 60, 40), None);
    let said = |replicas, taken, limit| most.has_no_room(replicas, taken, limit).unwrap();
    assert_eq!(said(2, 0, 1).line.unwrap(), "max_replicas = 3");
    assert_eq!(said(1, 60, 41).line.unwrap(), "max_memory_bytes = 101");
    assert!(said(1, 0, 0).what.starts_with("replicas without resources.limit.memory_bytes"));
    assert_eq!(Policy::default().has_no_room(9_999, u64::MAX, 0), None);
}

#[test]
fn a_policy_with_endless_lists_is_not_read() {
    let read = |list: Vec<String>| serde_json::from_value::<Policy>(json!({"bind_dirs": list}));
    assert!(read(vec!["/a".into(); 256]).is_ok());
    assert!(read(vec!["/a".into(); 257]).unwrap_err().to_string().contains("at most 256 words"));
    assert!(read(vec!["a".repeat(257)]).is_err());
    let newer = json!({"a_rule_of_a_later_version": ["x"]});
    assert_eq!(serde_json::from_value::<Policy>(newer).unwrap(), Policy::default());
}

//! README and the pages of docs/how-to: every command in them runs as a reader would
//! type it, and prints what the page shows.

use std::fs;

use shef_integration_tests::lab::{
    lan::{LanLab, Plan, bare::BareLab, reader::Reader},
    socket::{BUSYBOX, EngineSocket, busybox_with},
    system_image::{SystemImages, import_redis},
};

/// Stands for nginx: serves one page on port 80, and knows its version.
const NGINX: &str = "#!/bin/sh
case \"$1\" in
-v) echo \"nginx version: nginx/$NGINX_VERSION\" >&2; exit 0 ;;
esac
echo 'start worker processes'
trap 'exit 0' TERM QUIT
httpd -f -p 80 -h /usr/share/nginx/html &
wait
";
const WELCOME: &str = "<html><body>\n<h1>Welcome to nginx!</h1>\n</body></html>\n";
/// `htpasswd -B` of `deploy` with the password `secret`, and of the one who pushes.
const LOGINS: [&str; 2] = [
    "deploy:$2y$05$xz2f.GoMQAem.rb8OUgI9.ayfpjH9J5h2dbs6AvjZaRRW5HQJqCLO",
    "lab:$2y$05$abcdefghijklmnopqrstuup1vlAAUDMpgzvqmIu/m0vJZ3muqfVsK",
];

/// Gives the engine the images of the pages: two releases of nginx, and one that ends with an error.
async fn import_nginx(engine: &EngineSocket) {
    let tar = busybox_with(&[("usr/sbin/nginx", NGINX), ("usr/share/nginx/html/index.html", WELCOME)]);
    for version in ["1.27", "1.28"] {
        let changes = vec![format!("ENV NGINX_VERSION={version}.0"), r#"CMD ["nginx"]"#.to_owned()];
        engine.import(&format!("nginx:{version}"), &tar, changes).await;
    }
    engine.import("nginx:broken", &tar, vec![r#"CMD ["sh", "-c", "exit 1"]"#.to_owned()]).await;
}

/// Reads a page on one host, on which `shef up` runs in the background.
async fn read_with_shef_up(lab: &BareLab, page: &str, replacing: &[(&str, &str)]) {
    let mut reader = Reader::new(&lab.hosts);
    reader.prepare("shef up -d").await;
    reader.read(page, replacing).await;
}

/// A host whose engine has the images of the pages.
async fn host() -> BareLab {
    let lab = BareLab::start(1).await;
    import_nginx(&lab.hosts[0].socket()).await;
    lab
}

#[actix::test]
async fn the_commands_of_the_readme_run() {
    let lab = host().await;
    Reader::new(&lab.hosts).read("README.md", &[("cargo run --", "shef")]).await;
}

#[actix::test]
async fn a_first_service_runs_by_its_page() {
    let lab = host().await;
    Reader::new(&lab.hosts).read("docs/how-to/first-service.md", &[]).await;
    assert!(lab.hosts[0].socket().all().await.is_empty(), "the page leaves nothing behind");
}

#[actix::test]
async fn a_service_is_updated_and_rolled_back_by_its_page() {
    let lab = host().await;
    read_with_shef_up(&lab, "docs/how-to/update-and-roll-back.md", &[]).await;
}

#[actix::test]
async fn a_service_keeps_its_data_by_its_page() {
    let lab = host().await;
    import_redis(&lab.hosts[0].socket(), "redis:7.2-alpine").await;
    read_with_shef_up(&lab, "docs/how-to/stateful-service.md", &[]).await;
}

#[actix::test]
async fn the_health_of_a_service_is_checked_by_its_page() {
    let lab = host().await;
    read_with_shef_up(&lab, "docs/how-to/health-checks.md", &[]).await;
}

#[actix::test]
async fn a_private_registry_is_used_by_its_page() {
    let lab = BareLab::start_guarded(1, &LOGINS).await;
    let engine = lab.hosts[0].socket();
    engine.import_busybox().await;
    lab.registry.push(&engine.client(), BUSYBOX, "app:1").await;
    let registry = lab.registry.image("");
    let replacing = [("registry.example.com", registry.trim_end_matches('/'))];
    read_with_shef_up(&lab, "docs/how-to/private-registry.md", &replacing).await;
}

#[actix::test]
async fn a_service_has_a_secret_and_a_config_by_its_page() {
    let lab = host().await;
    read_with_shef_up(&lab, "docs/how-to/secrets.md", &[]).await;
}

#[actix::test]
async fn several_hosts_become_a_cluster_by_their_page() {
    let lab = BareLab::start(2).await;
    let engine = lab.hosts[0].socket();
    SystemImages::get().await.push(&engine.client(), &lab.registry).await;
    import_redis(&engine, "redis:7.2-alpine").await;
    for host in &lab.hosts {
        import_nginx(&host.socket()).await;
    }
    let [first, second] = [1, 2].map(|n| lab.address(n).to_string());
    // Hosts of the lab share the machine's name: the page says what to add then.
    let named = [1, 2].map(|n| format!("-e HOST_IP={} -e SHEF_AGENT_NODE_NAME=h{n}", lab.address(n)));
    let on_first = format!("docker -H {}", lab.hosts[0].socket().url());
    let replacing = [
        ("-e HOST_IP=10.0.0.1", named[0].as_str()),
        ("-e HOST_IP=10.0.0.2", named[1].as_str()),
        ("ssh \"$first\" docker", on_first.as_str()),
        ("10.0.0.1", &first),
        ("10.0.0.2", &second),
        ("registry.example.com/shef:1", &lab.registry.image("shef:1")),
    ];
    Reader::new(&lab.hosts).read("docs/how-to/several-hosts.md", &replacing).await;
}

#[actix::test]
async fn a_host_is_maintained_by_its_page() {
    let lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    for host in &lan.hosts {
        import_nginx(&host.socket()).await;
    }
    // This lab's master runs without a container.
    let shef = format!("SHEF_API=http://{} command shef", lan.master.address.ip());
    let replacing = [("docker exec -i shef-master shef", shef.as_str())];
    Reader::new(&lan.hosts).read("docs/how-to/host-maintenance.md", &replacing).await;
}

#[actix::test]
async fn a_cluster_is_backed_up_and_restored_by_its_page() {
    let lab = host().await;
    read_with_shef_up(&lab, "docs/how-to/backup.md", &[]).await;
}

#[test]
fn every_how_to_page_has_a_test_that_runs_it() {
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to");
    for page in fs::read_dir(pages).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(
            include_str!("how_to.rs").contains(&format!("\"docs/how-to/{name}\"")),
            "no test runs {name}"
        );
    }
}

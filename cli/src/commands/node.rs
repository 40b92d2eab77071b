//! `shef node`: the hosts, and what an operator wants of them.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::{Value, json};
use shef_common::{clock::WallMs, ids::NodeName};
use shef_master::{
    membership::Standing,
    runner::{IntentWord, NodeView},
};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client, read},
    progress::{Goal, Outlook, Progress, WaitArgs, follow, unless_stopped},
    say,
    table::table,
    visible::visible_cell,
};

/// How many hosts that speak without TLS are named.
const PLAIN_SHOWN: usize = 10;

/// Arguments of `shef node`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the hosts
    Ls {
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Shows a host
    Show {
        /// The host
        #[arg(value_name = "HOST")]
        host: NodeName,
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Keeps new replicas off hosts; what they run stays
    Cordon(Hosts),
    /// Moves what hosts run to other hosts, replacements first
    Drain {
        #[command(flatten)]
        hosts: Hosts,
        /// Remove what is left after this time, replaced or not
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
        deadline: Option<u32>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Lets hosts take replicas again, after a cordon or a drain
    Activate(Hosts),
    /// Removes hosts from the cluster; their replicas are placed on other hosts
    Rm {
        #[command(flatten)]
        hosts: Hosts,
        /// Also remove hosts that still report
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Hosts {
    /// The hosts
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<NodeName>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        on_system(carry_out(&self.api.client()?, self.verb))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn carry_out(client: &Client, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Ls { json } => ls(client, json).await,
        Verb::Show { host, json } => show(client, &host, json).await,
        Verb::Cordon(hosts) => {
            hosts.ask(client, "cordon", None, "keeps what it runs and takes nothing new").await
        }
        Verb::Activate(hosts) => hosts.ask(client, "activate", None, "takes replicas").await,
        Verb::Drain { hosts, deadline, wait } => {
            let body = deadline.map(|seconds| json!({ "deadline_s": seconds }));
            hosts.ask(client, "drain", body.as_ref(), "is to be emptied").await?;
            let Some(limit) = wait.limit() else { return Ok(()) };
            let goal = |host| Emptied { host, has_deadline: deadline.is_some() };
            let goals: Vec<Emptied> = hosts.hosts.into_iter().map(goal).collect();
            let on_its_own: Vec<String> = goals.iter().map(Emptied::on_its_own).collect();
            let waiting = async {
                for goal in &goals {
                    follow(client, goal, limit, Progress { json: false }).await?;
                }
                Ok(())
            };
            unless_stopped(waiting, &on_its_own.join("; ")).await
        }
        Verb::Rm { hosts, force } => {
            hosts.check(client).await?;
            for host in &hosts.hosts {
                let path = format!("/v1/nodes/{host}{}", if force { "?force=true" } else { "" });
                client.send(Method::DELETE, &path, None).await?;
                say::step(format_args!("{host} has left the cluster"));
            }
            Ok(())
        }
    }
}

impl Hosts {
    /// Nothing is changed unless all hosts are members.
    ///
    /// # Errors
    /// Some are not: all of these are named.
    async fn check(&self, client: &Client) -> Result<(), Failure> {
        if self.hosts.len() < 2 {
            return Ok(());
        }
        let mut wrong = Vec::new();
        for host in &self.hosts {
            match client.get::<Value>(&format!("/v1/nodes/{host}")).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => wrong.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("{}; nothing was changed", wrong.join("; "))))
    }

    async fn ask(
        &self,
        client: &Client,
        verb: &str,
        body: Option<&Value>,
        outcome: &str,
    ) -> Result<(), Failure> {
        self.check(client).await?;
        for host in &self.hosts {
            client.send(Method::POST, &format!("/v1/nodes/{host}/{verb}"), body).await?;
            say::step(format_args!("{host} {outcome}"));
        }
        Ok(())
    }
}

/// What the cluster says of a host, a line each.
async fn show(client: &Client, host: &NodeName, json: bool) -> Result<(), Failure> {
    let shown: Value = client.get(&format!("/v1/nodes/{host}")).await?;
    if json {
        say::line(shown);
        return Ok(());
    }
    let node: NodeView = read(shown)?;
    let [name, address, state, takes, replicas, engine, policy, labels, reason] = row(&node);
    let encryption = if node.tls { "TLS" } else { "none: it speaks plainly" };
    let lines = [
        ("host", name),
        ("address", address),
        ("state", state),
        ("reason", reason),
        ("takes replicas", takes),
        ("replicas", replicas),
        ("engine", engine),
        ("shef", node.host.shef_version.clone()),
        ("policy", policy),
        ("labels", labels),
        ("encryption", encryption.to_owned()),
        ("uid", node.uid.to_string()),
        ("joined", node.joined.iso()),
        ("last report", node.last_report.map(WallMs::iso).unwrap_or_default()),
    ];
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        say::line(format_args!("{:<16}{}", format!("{name}:"), visible_cell(&value)));
    }
    Ok(())
}

/// What makes the cluster less safe than it may be, a sentence each.
fn warnings(cluster: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if cluster["insecure"] == true {
        warnings.push("insecure = true: everybody who reaches the API may do everything".to_owned());
    }
    let plain = cluster["plain_nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = plain.iter().filter_map(Value::as_str).take(PLAIN_SHOWN).collect();
    if !names.is_empty() {
        let more = plain.len() - names.len();
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = names.join(", ");
        let tls = cluster["tls"].as_str().unwrap_or_default();
        warnings.push(format!(
            "tls = {tls}: {names}{and_more} speak without TLS; any program that reaches their port may give \
             them orders (`shef token join` makes a token for them)"
        ));
    }
    warnings
}

async fn ls(client: &Client, json: bool) -> Result<(), Failure> {
    let nodes = client.pages("/v1/nodes", "nodes").await?;
    if json {
        say::line(json!({ "nodes": nodes, "next": null }));
        return Ok(());
    }
    let rows =
        nodes.into_iter().map(|node| read(node).map(|node| row(&node))).collect::<Result<Vec<_>, _>>()?;
    let head =
        ["HOST", "ADDRESS", "STATE", "TAKES REPLICAS", "REPLICAS", "ENGINE", "POLICY", "LABELS", "REASON"];
    table(head, &rows).iter().for_each(say::line);
    // Masters of earlier versions do not say.
    let cluster: Value = client.get("/v1/cluster").await?;
    warnings(&cluster).iter().for_each(|warning| say::note(format_args!("==> {warning}")));
    Ok(())
}

fn row(node: &NodeView) -> [String; 9] {
    let takes = match node.intent.intent {
        IntentWord::Cordoned => "no, cordoned",
        IntentWord::Drained => "no, drained",
        IntentWord::Active if node.flapping => "no, flapping",
        IntentWord::Active if node.state == Standing::Ready => "yes",
        IntentWord::Active => "no",
    };
    let removing =
        if node.removing > 0 { format!(", {} to be removed", node.removing) } else { String::new() };
    let labels: Vec<String> = node.host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        node.name.to_string(),
        node.host.address.to_string(),
        json!(node.state).as_str().unwrap_or_default().to_owned(),
        takes.to_owned(),
        format!("{}{removing}", node.wanted),
        node.host.engine_version.clone(),
        if node.host.policy.is_some() { "restricted" } else { "open" }.to_owned(),
        if labels.is_empty() { "-".to_owned() } else { labels.join(",") },
        node.reason.clone().unwrap_or_default(),
    ]
}

/// The goal that a drained host holds nothing any more.
struct Emptied {
    host: NodeName,
    /// Whether remaining replicas are removed at the deadline.
    has_deadline: bool,
}

impl Goal for Emptied {
    type View = NodeView;

    fn name(&self) -> &str {
        self.host.as_str()
    }

    fn path(&self) -> String {
        format!("/v1/nodes/{}", self.host)
    }

    fn events(&self) -> String {
        format!("/v1/events?host={}", self.host)
    }

    fn on_its_own(&self) -> String {
        let host = &self.host;
        format!(
            "the master goes on emptying {host}: `shef node ls` shows it, `shef node activate {host}` ends it"
        )
    }

    fn outlook(&self, node: Option<&NodeView>) -> Outlook {
        let host = &self.host;
        let Some(node) = node else { return Outlook::Missed(format!("{host} has left the cluster")) };
        if node.intent.intent != IntentWord::Drained {
            return Outlook::Missed(format!("{host} is not to be emptied any more"));
        }
        match (node.wanted, node.removing) {
            (0, 0) => Outlook::Reached(format!("{host} is empty")),
            (0, removing) => Outlook::Going(format!("{removing} to be removed")),
            (wanted, removing) => Outlook::Going(format!("{wanted} still to move, {removing} to be removed")),
        }
    }

    fn missing(node: &NodeView) -> Vec<String> {
        node.reason.iter().map(|reason| format!("{}: {reason}", node.name)).collect()
    }

    async fn reasons(&self, client: &Client) -> Vec<String> {
        // A host that cannot be asked now is asked again.
        let services = client.pages("/v1/services", "services").await.unwrap_or_default();
        services.iter().flat_map(|service| stays(service, &self.host)).collect()
    }

    fn way_out(&self, reasons: &[String]) -> String {
        let of_data =
            "`shef service release SERVICE SLOT` gives volume data up (`shef ps SERVICE` shows the slot)";
        let of_time =
            format!("`shef node drain {} --deadline SECONDS` removes what is left by then", self.host);
        let data = reasons.iter().any(|reason| reason.contains("volume data")).then(|| of_data.to_owned());
        let ways: Vec<String> = data.into_iter().chain((!self.has_deadline).then_some(of_time)).collect();
        ways.join("; ")
    }
}

/// Why replicas of a service stay on `host`, a line each.
fn stays(service: &Value, host: &NodeName) -> Vec<String> {
    let on_host = format!(" stays on {host}, which is drained");
    let missing = service["missing"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let name = service["name"].as_str().unwrap_or_default();
    missing.filter(|line| line.contains(&on_host)).map(|line| format!("service {name}: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_speaks_without_tls_is_named_and_so_is_an_open_api() {
        let hosts: Vec<String> = (1..=12).map(|n| format!("h{n}")).collect();
        let said = warnings(&json!({ "insecure": true, "tls": "optional", "plain_nodes": hosts }));
        assert!(said[0].starts_with("insecure = true: "), "{said:?}");
        assert!(
            said[1].starts_with("tls = optional: h1, h2, ") && said[1].contains("h10 and 2 more"),
            "{said:?}"
        );
        assert!(warnings(&json!({ "insecure": false, "tls": "required", "plain_nodes": [] })).is_empty());
        assert!(warnings(&json!({})).is_empty(), "a master of an earlier version");
    }

    #[test]
    fn what_stays_on_a_drained_host_is_told_with_its_service() {
        let data = "db-000001 stays on h1, which is drained, but holds its volume data";
        let other = "db-000002 stays on h12, which is drained, but holds its volume data";
        let service = json!({"name": "db", "missing": [data, other, "db-000003 is being started on h1"]});
        let host = NodeName::parse("h1").unwrap();
        let reasons = stays(&service, &host);
        assert_eq!(reasons, [format!("service db: {data}")]);
        // And what can be done about it, if something can.
        let way_out =
            |has_deadline, reasons: &[String]| Emptied { host: host.clone(), has_deadline }.way_out(reasons);
        assert!(
            way_out(false, &reasons).contains("release") && way_out(false, &reasons).contains("--deadline")
        );
        assert!(!way_out(true, &reasons).contains("--deadline"));
        assert_eq!(way_out(true, &["service web: no other host has port 80 free".to_owned()]), "");
    }
}

//! Postfix, as a relay that takes mail and hands it on, with OpenDKIM in front of it. Both have a directory of their own, and
//! listen on the loopback interface. Postfix starts as root alone.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::{eventually, free_port, process::Process, tool};

/// A relay. Dropped, it ends.
pub struct Postfix {
    directory: tempfile::TempDir,
    process: Process,
    _signer: Process,
    /// Where it listens.
    pub port: u16,
    /// The public key that its signatures verify with, as the DNS would have it.
    pub dkim_record: String,
}

/// Services of `master.cf` but the listener: name, type, private, program and its process limit.
const SERVICES: [(&str, &str, &str, &str, &str); 12] = [
    ("pickup", "unix", "n", "pickup", "1"),
    ("cleanup", "unix", "n", "cleanup", "0"),
    ("qmgr", "unix", "n", "qmgr", "1"),
    ("tlsmgr", "unix", "-", "tlsmgr", "1"),
    ("rewrite", "unix", "-", "trivial-rewrite", "-"),
    ("bounce", "unix", "-", "bounce", "0"),
    ("defer", "unix", "-", "bounce", "0"),
    ("trace", "unix", "-", "bounce", "0"),
    ("smtp", "unix", "-", "smtp", "-"),
    ("error", "unix", "-", "error", "-"),
    ("retry", "unix", "-", "error", "-"),
    ("postlog", "unix-dgram", "n", "postlogd", "1"),
];

impl Postfix {
    /// Whether it can be started here.
    pub fn can_start() -> bool {
        fs::metadata("/proc/self").unwrap().uid() == 0
    }

    /// A relay that signs for `sender`, and hands mail for each domain to a server on that port.
    pub async fn start(sender: &str, routes: &[(&str, u16)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Its processes run as other users.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let milter = free_port();
        let (signer, dkim_record) = sign(directory.path(), sender, milter).await;
        let port = free_port();
        configure(directory.path(), port, milter, routes);
        let process = Process::spawn(
            Command::new("/usr/sbin/postfix")
                .arg("-c")
                .arg(directory.path().join("config"))
                .arg("start-fg"),
        );
        let postfix = Self {
            directory,
            process,
            _signer: signer,
            port,
            dkim_record,
        };
        postfix.until_it_listens().await;
        postfix
    }

    async fn until_it_listens(&self) {
        eventually("Postfix to listen", || async {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        })
        .await;
    }

    /// Its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("mail.log"));
        log.unwrap_or_default() + &self.process.lines().join("\n")
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Its other processes end with its master, which wants to be asked.
        let config = self.directory.path().join("config");
        let mut stopping = Command::new("/usr/sbin/postfix");
        stopping.arg("-c").arg(config).arg("stop").output().ok();
    }
}

fn configure(directory: &Path, port: u16, milter: u16, routes: &[(&str, u16)]) {
    let (config, queue, data) = (
        directory.join("config"),
        directory.join("queue"),
        directory.join("data"),
    );
    for path in [&config, &queue, &data] {
        fs::create_dir(path).unwrap();
    }
    let owned = Command::new("chown").arg("postfix").arg(&data).status();
    assert!(owned.unwrap().success());
    let domains: Vec<_> = routes.iter().map(|(domain, _)| *domain).collect();
    let transports: Vec<_> = routes
        .iter()
        .map(|(domain, port)| format!("{{{domain}=smtp:[127.0.0.1]:{port}}}"))
        .collect();
    let main = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {queue}\ndata_directory = {data}\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nshlib_directory = /usr/lib/postfix\n\
         meta_directory = /etc/postfix\nmail_owner = postfix\nsetgid_group = postdrop\n\
         maillog_file_prefixes = {directory}\nmaillog_file = {directory}/mail.log\n\
         myhostname = relay.test\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
         mydestination =\nlocal_recipient_maps =\nalias_maps =\nalias_database =\nrelay_domains = {domains}\n\
         transport_maps = inline:{{ {transports} }}\nsmtp_host_lookup = native\ndisable_dns_lookups = yes\n\
         smtpd_milters = inet:127.0.0.1:{milter}\nmilter_default_action = tempfail\n\
         smtp_tls_security_level = none\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n",
        queue = queue.display(),
        data = data.display(),
        directory = directory.display(),
        domains = domains.join(", "),
        transports = transports.join(", "),
    );
    fs::write(config.join("main.cf"), main).unwrap();
    let mut master = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    for (name, kind, private, program, limit) in SERVICES {
        master += &format!("{name} {kind} {private} - n - {limit} {program}\n");
    }
    fs::write(config.join("master.cf"), master).unwrap();
}

/// OpenDKIM on that port, with its own key; the record that it signs for.
async fn sign(directory: &Path, domain: &str, port: u16) -> (Process, String) {
    let (key, public) = (directory.join("dkim.key"), directory.join("dkim.der"));
    openssl(&["genrsa", "-traditional", "-out"], &key, &["2048"]);
    openssl(
        &["rsa", "-pubout", "-outform", "DER", "-in"],
        &key,
        &["-out", &public.display().to_string()],
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let config = directory.join("opendkim.conf");
    // A list of headers that begins with `*` adds to those that are signed by themselves.
    let text = format!(
        "Syslog no\nMode s\nCanonicalization relaxed/relaxed\nDomain {domain}\nSelector test\nKeyFile {key}\n\
         RequireSafeKeys no\nSocket inet:{port}@127.0.0.1\nInternalHosts 127.0.0.1\n\
         SignHeaders *,+list-unsubscribe,+list-unsubscribe-post\nUMask 002\n",
        key = key.display(),
    );
    fs::write(&config, text).unwrap();
    let signer = Process::spawn(Command::new(opendkim()).arg("-f").arg("-x").arg(&config));
    eventually("OpenDKIM to listen", || async {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })
    .await;
    let public = BASE64.encode(fs::read(public).unwrap());
    (signer, format!("v=DKIM1; k=rsa; p={public}"))
}

fn opendkim() -> PathBuf {
    let installed = PathBuf::from("/usr/sbin/opendkim");
    if installed.exists() {
        return installed;
    }
    tool("opendkim")
}

fn openssl(before: &[&str], file: &Path, after: &[&str]) {
    let made = Command::new("openssl")
        .args(before)
        .arg(file)
        .args(after)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

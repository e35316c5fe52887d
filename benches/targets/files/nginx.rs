//! nginx, as a server of a directory that takes files by PUT: two workers, `sendfile`, no log.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::{PATIENCE, free_port, process::Process, tool};

pub struct Nginx {
    process: Process,
    pub port: u16,
    /// What it serves.
    pub root: PathBuf,
}

impl Nginx {
    /// One that keeps everything below the directory.
    pub fn start(directory: &Path) -> Self {
        let (home, port) = (directory.join("nginx"), free_port());
        let root = home.join("root");
        fs::create_dir_all(&root).unwrap();
        let config = home.join("nginx.conf");
        fs::write(&config, text(&home, port)).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(tool("nginx"))
            .arg("-p")
            .arg(&home)
            .args(["-e", "stderr", "-c"])
            .arg(&config);
        let process = Process::spawn(&mut command);
        let nginx = Self {
            process,
            port,
            root,
        };
        let began = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < PATIENCE,
                "nginx does not listen: {:?}",
                nginx.process.lines()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        nginx
    }
}

/// Its workers go with it, unless it is killed.
impl Drop for Nginx {
    fn drop(&mut self) {
        if self.process.try_exit().is_some() {
            return;
        }
        self.process.signal("TERM");
        for _ in 0..500 {
            if self.process.try_exit().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn text(home: &Path, port: u16) -> String {
    let home = home.display();
    format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {home}/nginx.pid;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
         access_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000;\n\
         default_type application/octet-stream;\nclient_max_body_size 0;\n\
         client_body_temp_path {home}/body;\nproxy_temp_path {home}/proxy;\nfastcgi_temp_path {home}/fastcgi;\n\
         uwsgi_temp_path {home}/uwsgi;\nscgi_temp_path {home}/scgi;\n\
         server {{\nlisten 127.0.0.1:{port};\nroot {home}/root;\n\
         location / {{ dav_methods PUT; create_full_put_path on; }}\n}}\n}}\n"
    )
}

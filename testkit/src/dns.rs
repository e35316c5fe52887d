//! A DNS server whose answers a test makes up, and daemons that ask it in place of the system's.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// The test's answer to the `n`th query of the name (from 0 on): addresses of either family.
type Answer = dyn Fn(&str, usize) -> Vec<IpAddr> + Send + Sync;

/// A DNS server on its own address, port 53. Its thread ends with the test process.
pub struct FakeDns {
    address: Ipv4Addr,
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Servers of one process have different addresses.
static NEXT: AtomicU32 = AtomicU32::new(1);

const A: u16 = 1;
const AAAA: u16 = 28;

impl FakeDns {
    /// Listens from now on; `None` where this user may not listen on port 53 or mount a file.
    pub fn start(
        answer: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static,
    ) -> Option<Self> {
        let number = NEXT.fetch_add(1, Relaxed);
        let process = std::process::id();
        let [_, _, high, low] = (process.wrapping_mul(64) + number).to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low.max(1));
        let Ok(socket) = UdpSocket::bind((address, 53)) else {
            eprintln!("skipped: only root may listen on port 53");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let text = format!("nameserver {address}\noptions timeout:2 attempts:2\n");
        std::fs::write(directory.path().join("resolv.conf"), text).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || serve(&socket, &noted, &answer));
        Some(Self {
            address,
            directory,
            asked,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// How often the name was asked for: once for each family and attempt.
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| *it == name).count()
    }

    /// The replacement of `/etc/resolv.conf` for its clients.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.directory.path().join("resolv.conf")
    }
}

fn serve(socket: &UdpSocket, asked: &Mutex<Vec<String>>, answer: &Answer) {
    let mut buffer = [0; 1500];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let Some((name, kind, end)) = question(&buffer[..length]) else {
            continue;
        };
        let before = {
            let mut asked = asked.lock().unwrap();
            let before = asked.iter().filter(|it| **it == name).count();
            asked.push(name.clone());
            before
        };
        // Both families are asked for at once: they count as one time.
        let addresses = answer(&name, before / 2);
        let reply = reply(&buffer[..end], kind, &addresses);
        socket.send_to(&reply, client).ok();
    }
}

/// The name and type that a message asks for, and where its question ends.
fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

/// The answer to a question: those of the addresses that are of the family; a name without any does not exist.
fn reply(question: &[u8], kind: u16, addresses: &[IpAddr]) -> Vec<u8> {
    let data: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (kind, address) {
            (A, IpAddr::V4(it)) => Some(it.octets().to_vec()),
            (AAAA, IpAddr::V6(it)) => Some(it.octets().to_vec()),
            _ => None,
        })
        .collect();
    let status = if addresses.is_empty() { 3 } else { 0 };
    let mut message = question[..2].to_vec();
    message.extend([0x81, 0x80 | status]);
    message.extend([0, 1]);
    message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    message.extend([0; 4]);
    message.extend(&question[12..]);
    for data in data {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}

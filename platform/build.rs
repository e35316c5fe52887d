//! Recompiles the platform for a new migration.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
    println!("cargo::rustc-env=DOTMAC_MIGRATIONS=tracked");
}
